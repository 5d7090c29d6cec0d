#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// GPT-2's alphabet: each byte as one printable character, so that byte sequences
/// can stand in a vocabulary of strings. Printable Latin-1 bytes are themselves, the
/// other 68 are U+0100, U+0101, ... in order.
namespace schmidt::text {

/// The character of a byte, in UTF-8.
std::string_view byte_character(uint8_t byte);

/// The byte of a character of the alphabet; nullopt for any other character.
std::optional<uint8_t> character_byte(char32_t character);

/// Every byte of `text` as its character.
std::string to_byte_characters(std::string_view text);

/// The bytes that `token` stands for; `token` itself if any of its characters is
/// not of the alphabet.
std::string from_byte_characters(std::string_view token);

}  // namespace schmidt::text
