#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace schmidt::report {

/// What every page and figure says of itself near its beginning.
constexpr std::string_view kMadeBy = "made by schmidt";

/// A page of HTML in one file that opens without a network: no scripts, styles inside.
class Page {
 public:
  explicit Page(std::string_view title);

  void heading(std::string_view text);
  void paragraph(std::string_view text);
  void figure(std::string_view svg);  ///< a document of Svg, as it is
  void table(const std::vector<std::string>& header,
             const std::vector<std::vector<std::string>>& rows);

  std::string document() const;

 private:
  std::string title_, body_;
};

}  // namespace schmidt::report
