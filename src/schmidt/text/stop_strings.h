#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace schmidt::text {

/// Ends a text that comes in pieces at the first of several stop strings, which is
/// not part of it. What could be the beginning of a stop string is held back.
class StopStrings {
 public:
  /// Empty strings are left out: they would stop everything.
  explicit StopStrings(std::vector<std::string> stops);

  /// What is now certain to belong to the text; may be empty. Nothing after a stop.
  std::string push(std::string_view piece);

  /// The rest that was held back, at the end of the text.
  std::string flush();

  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace schmidt::text
