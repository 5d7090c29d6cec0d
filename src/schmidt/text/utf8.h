#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace schmidt::text {

struct CodePoint {
  char32_t value = 0;
  int length = 0;  ///< bytes in UTF-8, 1 .. 4
};

/// The character at byte `position` of valid UTF-8, which must not be its end.
CodePoint code_point_at(std::string_view text, size_t position);

/// The character that ends before byte `position` > 0 of valid UTF-8.
CodePoint code_point_before(std::string_view text, size_t position);

void append_utf8(std::string& text, char32_t code_point);

/// `bytes` with each maximal ill-formed subpart as one U+FFFD (Unicode 15, section
/// 3.9), which is what Rust's from_utf8_lossy and Python's errors="replace" do.
std::string to_valid_utf8(std::string_view bytes);

/// Whether `bytes` is well-formed UTF-8.
bool is_valid_utf8(std::string_view bytes);

/// Where `bytes` first stops being well-formed UTF-8; its size if it does not.
size_t valid_utf8_prefix(std::string_view bytes);

/// The mark U+FEFF that some editors put before UTF-8.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// The UTF-16 or UTF-32 that the beginning of a file shows, by its mark or by the zeros
/// beside plain letters; empty if it shows none.
std::string_view wide_encoding(std::string_view bytes);

/// Text that a user gave, without a leading byte order mark. Throws FormatError with the
/// place of the first byte that is not UTF-8, and the encoding where it can be told.
std::string_view utf8_text(std::string_view bytes, const std::filesystem::path& path);

/// How many leading bytes do not depend on what follows: all but a well-formed
/// beginning of a character at the very end.
size_t settled_prefix(std::string_view bytes);

}  // namespace schmidt::text
