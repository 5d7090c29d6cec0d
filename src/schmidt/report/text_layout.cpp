#include "schmidt/report/text_layout.h"

#include <algorithm>
#include <cstddef>

namespace schmidt::report {
namespace {

constexpr double kLatin = 0.64, kOther = 1.1, kBold = 1.1;  // ems

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

/// Length in bytes of the character at `at`.
size_t character_length(std::string_view text, size_t at) {
  size_t length = 1;
  while (at + length < text.size() && continues_character(text[at + length])) ++length;
  return length;
}

}  // namespace

double text_width(std::string_view text, double size, bool bold) {
  double ems = 0.0;
  for (size_t at = 0; at < text.size(); at += character_length(text, at)) {
    // Code points below 0x240 are Latin: their first byte is below 0xC9.
    ems += static_cast<unsigned char>(text[at]) < 0xC9U ? kLatin : kOther;
  }
  return ems * size * (bold ? kBold : 1.0);
}

double line_height(double size) { return 1.3 * size; }

std::vector<std::string> wrapped(std::string_view text, double width, double size, bool bold) {
  const auto fits = [&](const std::string& line) { return text_width(line, size, bold) <= width; };
  std::vector<std::string> lines = {""};
  for (size_t at = 0; at < text.size();) {
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word(text.substr(at, end - at));
    at = end;
    const std::string joined = lines.back().empty() ? word : lines.back() + " " + word;
    if (fits(joined)) {
      lines.back() = joined;
      continue;
    }
    if (!lines.back().empty()) lines.emplace_back();
    for (size_t c = 0; c < word.size();) {
      const std::string character = word.substr(c, character_length(word, c));
      if (!lines.back().empty() && !fits(lines.back() + character)) lines.emplace_back();
      lines.back() += character;
      c += character.size();
    }
  }
  return lines;
}

}  // namespace schmidt::report
