#pragma once

#include <string>
#include <string_view>

namespace schmidt::serve {

/// The value of a field in "a=1&model=my%20model", decoded; empty where there is none. A percent
/// sign that two hexadecimal digits do not follow stands for itself.
std::string query_field(std::string_view query, std::string_view name);

}  // namespace schmidt::serve
