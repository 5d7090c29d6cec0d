#include "schmidt/eval/python_text.h"

#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

namespace schmidt::eval {
namespace {

// White_Space, and the four separators of information.
bool is_space(char32_t c) { return (c >= 0x1C && c <= 0x1F) || text::is_white_space(c); }

bool is_ascii_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

}  // namespace

std::string_view right_stripped(std::string_view text) {
  while (!text.empty()) {
    const text::CodePoint last = text::code_point_before(text, text.size());
    if (!is_space(last.value)) break;
    text.remove_suffix(static_cast<size_t>(last.length));
  }
  return text;
}

std::string_view stripped(std::string_view text) {
  text = right_stripped(text);
  while (!text.empty()) {
    const text::CodePoint first = text::code_point_at(text, 0);
    if (!is_space(first.value)) break;
    text.remove_prefix(static_cast<size_t>(first.length));
  }
  return text;
}

std::string lower(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const text::CodePoint c = text::code_point_at(text, at);
    text::append_utf8(result, text::to_lower(c.value));
    at += static_cast<size_t>(c.length);
  }
  return result;
}

std::string without_punctuation(std::string_view text) {
  std::string result(text);
  std::erase_if(result, is_ascii_punctuation);
  return result;
}

std::string replaced(std::string_view text, std::string_view old, std::string_view by) {
  std::string result;
  while (true) {
    const size_t found = text.find(old);
    result += text.substr(0, found);
    if (found == std::string_view::npos) return result;
    result += by;
    text.remove_prefix(found + old.size());
  }
}

size_t characters(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size();
       at += static_cast<size_t>(text::code_point_at(text, at).length)) {
    ++count;
  }
  return count;
}

}  // namespace schmidt::eval
