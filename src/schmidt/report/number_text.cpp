#include "schmidt/report/number_text.h"

#include <cmath>

#include <fmt/format.h>

namespace schmidt::report {

std::string figure(double value) {
  return std::isfinite(value) ? fmt::format("{:.5g}", value) : "";
}

std::string grouped(int64_t value) {
  std::string text = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = text.size(); at > first + 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string bytes_text(double bytes) {
  if (bytes < 1e3) return fmt::format("{:.0f} bytes", bytes);
  if (bytes < 1e6) return fmt::format("{:.4g} kB", bytes / 1e3);
  return bytes < 1e9 ? fmt::format("{:.4g} MB", bytes / 1e6)
                     : fmt::format("{:.4g} GB", bytes / 1e9);
}

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", 100.0 * share) : "";
}

}  // namespace schmidt::report
