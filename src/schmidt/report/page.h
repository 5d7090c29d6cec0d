#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace schmidt::report {

/// What every page and figure says of itself near its beginning.
constexpr std::string_view kMadeBy = "made by schmidt";

/// A page of HTML in one file that opens without a network: no scripts, styles inside. It is
/// readable from the width of a telephone up, light or dark as the reader has it: figures side
/// by side as there is room, text broken where it has to be, a wide table scrolled by itself.
class Page {
 public:
  explicit Page(std::string_view title);

  void heading(std::string_view text);
  void paragraph(std::string_view text);
  void figures(const std::vector<std::string>& svgs);  ///< documents of Svg, as they are
  void table(const std::vector<std::string>& header,
             const std::vector<std::vector<std::string>>& rows);

  std::string document() const;

 private:
  std::string title_, body_;
};

}  // namespace schmidt::report
