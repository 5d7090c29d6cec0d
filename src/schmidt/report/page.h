#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace schmidt::report {

/// What every page and figure says of itself near its beginning.
constexpr std::string_view kMadeBy = "made by schmidt";

/// A piece of text, or what stands in a table, with the file that it comes from where there is one.
struct Cell {
  std::string text;
  std::string link = {};  ///< a path as seen from the page; empty: none
  bool is_prose = false;  ///< words, which begin at the left: numbers end at the right
};

struct CellTable {
  std::vector<Cell> header;
  std::vector<std::vector<Cell>> rows;  ///< as wide as the header; the first of each names it
};

/// A figure with what it shows in words and in numbers. Pages count them.
struct Figure {
  std::string svg;       ///< a document of Svg
  std::string finding;   ///< what it shows
  CellTable values;      ///< what it was drawn from, folded away; may be empty
  bool is_wide = false;  ///< takes the page's whole width
};

/// What one model wrote.
struct Quotation {
  Cell author;
  std::string text;
};

/// A page of HTML in one file that opens without a network: no scripts, styles inside. It is
/// readable from the width of a telephone up, light or dark as the reader has it: figures side
/// by side as there is room, text broken where it has to be, a wide table scrolled by itself.
/// It is well-formed XML too.
class Page {
 public:
  explicit Page(std::string_view title);

  void lead(const std::vector<Cell>& pieces);  ///< the paragraph that a reader begins with
  void heading(std::string_view text);
  void subheading(std::string_view text);
  void paragraph(std::string_view text);
  void paragraph(const std::vector<Cell>& pieces);
  void figures(const std::vector<std::string>& svgs);  ///< documents of Svg, as they are
  void figures(const std::vector<Figure>& figures);
  void table(const std::vector<std::string>& header,
             const std::vector<std::vector<std::string>>& rows);
  void table(const CellTable& table);
  void folded(std::string_view summary, const CellTable& table);  ///< opened by whoever asks
  void commands(const std::vector<std::string>& lines);
  /// How several models went on with a text, side by side.
  void quotations(std::string_view prompt, const std::vector<Quotation>& quotations);

  std::string document() const;

 private:
  std::string title_, body_;
  int figures_ = 0;  ///< that have a number
};

}  // namespace schmidt::report
