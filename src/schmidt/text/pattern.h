#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "schmidt/text/json_view.h"
#include "schmidt/text/regex.h"

namespace schmidt::text {

/// What tokenizer.json calls a pattern: {"String": literal} or {"Regex": source}.
/// A search that takes too long is the file's fault, so failures are FormatErrors
/// that name the pattern's place.
class Pattern {
 public:
  /// Throws FormatError.
  explicit Pattern(const JsonView& json);

  /// All matches in valid UTF-8, in order, without overlap.
  std::vector<Span> find_all(std::string_view text) const;

  /// `text` with every match replaced by `content`.
  std::string replace_all(std::string_view text, std::string_view content) const;

 private:
  std::variant<std::string, Regex> matcher_;
  std::filesystem::path path_;
  std::string where_;
};

}  // namespace schmidt::text
