#pragma once

#include <string>
#include <string_view>

namespace schmidt::text {

/// Valid UTF-8 as Python's str.capitalize has it: the first character in title case, all
/// others in lower case, each by its single character.
std::string capitalized(std::string_view text);

}  // namespace schmidt::text
