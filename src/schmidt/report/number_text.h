#pragma once

#include <cstdint>
#include <string>

namespace schmidt::report {

/// Five significant digits; empty where it is not finite.
std::string figure(double value);

/// "1,048,576".
std::string grouped(int64_t value);

/// "12 s", "3 min 20 s", "2 h 5 min".
std::string duration(double seconds);

/// "512 bytes", "1.5 kB", "96.6 MB", "1.2 GB" (powers of 1000).
std::string bytes_text(double bytes);

/// "10.8 %".
std::string percent(double share);

}  // namespace schmidt::report
