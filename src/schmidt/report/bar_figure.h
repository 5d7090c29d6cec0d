#pragma once

#include <optional>
#include <string>
#include <vector>

#include "schmidt/report/colour.h"

namespace schmidt::report {

/// One quantity of every row.
struct BarSeries {
  std::string name;  ///< in the legend; empty: not in it
  Colour colour = kBlue;
};

struct BarRow {
  std::string label;
  std::vector<double> values;      ///< for each series; NaN: none
  std::vector<std::string> texts;  ///< at the end of each bar
};

struct BarFigure {
  std::string title;
  std::vector<BarSeries> series;
  std::vector<BarRow> rows;
  std::optional<double> mark = {};  ///< a value that all are compared with: a line across
};

/// Bars from zero, a row of them for each label, which stands at their left and has the room that
/// it needs. Values are 0 or more. A document of SVG.
std::string bars_svg(const BarFigure& figure);

}  // namespace schmidt::report
