#include "schmidt/text/capitalized.h"

#include <utf8proc.h>

#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {

std::string capitalized(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (i > 0) {
      append_utf8(result, to_lower(c.value));
    } else if (c.value == 0xDF) {
      result += "Ss";  // the German sharp s has no capital of its own
    } else {
      append_utf8(result,
                  static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c.value))));
    }
    i += static_cast<size_t>(c.length);
  }
  return result;
}

}  // namespace schmidt::text
