#include "schmidt/text/byte_level.h"

#include <array>

#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (0x21 <= byte && byte <= 0x7E) || (0xA1 <= byte && byte <= 0xAC) || byte >= 0xAE;
}

constexpr char32_t kFirstStandIn = 0x100;
constexpr int kStandIns = 68;

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<uint8_t, kStandIns> stand_ins{};  // byte of U+0100 + index

  Alphabet() {
    int next = 0;
    for (int byte = 0; byte < 256; ++byte) {
      char32_t c = static_cast<char32_t>(byte);
      if (!stands_for_itself(byte)) {
        stand_ins[next] = static_cast<uint8_t>(byte);
        c = kFirstStandIn + next++;
      }
      append_utf8(characters[byte], c);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view byte_character(uint8_t byte) { return alphabet().characters[byte]; }

std::optional<uint8_t> character_byte(char32_t c) {
  if (c < 0x100) {
    if (!stands_for_itself(static_cast<int>(c))) return std::nullopt;
    return static_cast<uint8_t>(c);
  }
  if (c >= kFirstStandIn + kStandIns) return std::nullopt;
  return alphabet().stand_ins[c - kFirstStandIn];
}

std::string to_byte_characters(std::string_view text) {
  std::string result;
  result.reserve(text.size() + text.size() / 4);
  for (const char c : text) result += byte_character(static_cast<uint8_t>(c));
  return result;
}

std::string from_byte_characters(std::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size();) {
    const CodePoint c = code_point_at(token, i);
    const std::optional<uint8_t> byte = character_byte(c.value);
    if (!byte) return std::string(token);
    bytes.push_back(static_cast<char>(*byte));
    i += c.length;
  }
  return bytes;
}

}  // namespace schmidt::text
