#pragma once

#include <span>
#include <string_view>

/// Character classes as the tokenizers library sees them. Its parts were built with
/// different versions of Unicode, all newer than the system's libraries, and a
/// character that one side does not know would change token ids: the tables here
/// add what is missing.
namespace schmidt::text {

struct CodePointRange {
  char32_t first, last;  ///< both inclusive
};

/// Members that a general category ("L", "N", "Nd", "M", "Lu", "Ll") gained in
/// Unicode 15 and 16, beyond the Unicode 14 of PCRE2 10.42; empty for others.
std::span<const CodePointRange> later_members(std::string_view category);

/// The White_Space property.
std::span<const CodePointRange> white_space();
bool is_white_space(char32_t c);

/// General category N as of Unicode 17: what Rust calls numeric.
bool is_numeric(char32_t c);

/// Alphabetic, or a mark, decimal digit, connector or joiner: `\w` as Rust has it.
bool is_word(char32_t c);

/// The lower case of `c` as of Unicode 17, where it is a single character.
char32_t to_lower(char32_t c);

/// ASCII punctuation and symbols, and general category P.
bool is_punctuation(char32_t c);

/// Whether the normalization forms leave `c` alone although the system's library
/// would not: assigned or given properties after Unicode 9.
bool is_unknown_to_normalization(char32_t c);

}  // namespace schmidt::text
