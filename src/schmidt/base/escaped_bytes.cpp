#include "schmidt/base/escaped_bytes.h"

#include <cstdint>

#include <fmt/format.h>

namespace schmidt {
namespace {

/// First bytes of characters, and what may follow them at once; other bytes that follow are
/// 80 .. BF.
struct Row {
  uint8_t first, last;
  uint8_t second_from, second_to;
  size_t length;
};

constexpr Row kWellFormed[] = {
    {0x00, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
    {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
    {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};

/// Bytes of the well-formed character at the beginning; 0: there is none.
size_t character(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  for (const Row& row : kWellFormed) {
    if (at(0) < row.first || at(0) > row.last) continue;
    if (bytes.size() < row.length) return 0;
    for (size_t i = 1; i < row.length; ++i) {
      const uint8_t from = i == 1 ? row.second_from : 0x80, to = i == 1 ? row.second_to : 0xbf;
      if (at(i) < from || at(i) > to) return 0;
    }
    return row.length;
  }
  return 0;
}

}  // namespace

std::string escaped_bytes(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t length = character(bytes);
    if (length > 0) {
      text += bytes.substr(0, length);
    } else {
      text += fmt::format("\\x{:02X}", static_cast<uint8_t>(bytes.front()));
    }
    bytes.remove_prefix(length > 0 ? length : 1);
  }
  return text;
}

std::string one_line(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
}

}  // namespace schmidt
