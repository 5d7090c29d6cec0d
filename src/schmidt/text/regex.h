#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::text {

/// Bytes [begin, end) of a text.
struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const Span&) const = default;
};

/// A regular expression as tokenizer.json has it: Oniguruma's dialect, run by
/// PCRE2. `\s`, `\w`, `\d`, `\b` and the categories `\p{L}`, `\p{N}`, `\p{M}` mean the
/// same characters there and here (unicode_properties.h). Safe to use from several
/// threads.
class Regex {
 public:
  /// Throws c10::ValueError for a pattern that is wrong, or that the two dialects
  /// would read differently.
  explicit Regex(std::string_view pattern);

  /// All matches in valid UTF-8, leftmost first, without overlap; empty ones count,
  /// except directly behind another match. Throws c10::ValueError where the search
  /// takes too many steps (catastrophic backtracking).
  std::vector<Span> find_all(std::string_view text) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

/// Oniguruma's pattern in PCRE2's dialect. Throws as the constructor.
std::string translate_oniguruma(std::string_view pattern);

}  // namespace schmidt::text
