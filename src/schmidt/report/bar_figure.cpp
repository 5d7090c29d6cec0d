#include "schmidt/report/bar_figure.h"

#include <algorithm>
#include <cmath>

#include "schmidt/report/axis.h"
#include "schmidt/report/svg.h"
#include "schmidt/report/text_layout.h"

namespace schmidt::report {
namespace {

constexpr double kWidth = 460.0, kEdge = 12.0;
constexpr double kName = 12.0, kValue = 11.0, kHeading = 13.0;  // sizes of text
constexpr double kBar = 15.0, kBetweenBars = 2.0, kBetweenRows = 12.0;
constexpr double kMostName = 150.0;  // a longer one is broken

double widest(const BarFigure& figure, bool of_names) {
  double width = 0.0;
  for (const BarRow& row : figure.rows) {
    if (of_names) {
      for (const std::string& line : wrapped(row.label, kMostName, kName)) {
        width = std::max(width, text_width(line, kName));
      }
    } else {
      for (const std::string& text : row.texts) width = std::max(width, text_width(text, kValue));
    }
  }
  return width;
}

double bars_height(const BarFigure& figure) {
  const auto bars = static_cast<double>(figure.series.size());
  return bars * kBar + (bars - 1) * kBetweenBars;
}

double row_height(const BarFigure& figure, const BarRow& row) {
  const auto lines = static_cast<double>(wrapped(row.label, kMostName, kName).size());
  return std::max(bars_height(figure), lines * line_height(kName));
}

/// Returns where it ends.
double draw_series_names(Svg& svg, const BarFigure& figure, double top) {
  double x = kEdge, y = top;
  bool any = false;
  for (const BarSeries& series : figure.series) {
    if (series.name.empty()) continue;
    const double width = 18 + text_width(series.name, kValue);
    if (any && x + width > kWidth - kEdge) {
      x = kEdge;
      y += line_height(kValue);
    }
    svg.rectangle({x, y + 3, 11, 11}, series.colour);
    svg.text({x + 17, y + 12.5}, series.name, {kValue});
    x += width + 18;
    any = true;
  }
  return any ? y + line_height(kValue) + 8 : top;
}

}  // namespace

std::string bars_svg(const BarFigure& figure) {
  double top = kEdge + line_height(kHeading) *
                           static_cast<double>(
                               wrapped(figure.title, kWidth - 2 * kEdge, kHeading, true).size());
  top += 8;
  double height = top;
  // The legend's height is that of what it draws.
  Svg scratch(kWidth, 0);
  height = draw_series_names(scratch, figure, height);
  const double first = height;
  for (const BarRow& row : figure.rows) height += row_height(figure, row) + kBetweenRows;
  Svg svg(kWidth, height + kEdge - kBetweenRows);
  svg.paragraph({kEdge, kEdge + 11}, figure.title, kWidth - 2 * kEdge,
                {kHeading, Anchor::kStart, kTitle, true});
  draw_series_names(svg, figure, top);

  double largest = figure.mark.value_or(0.0);
  for (const BarRow& row : figure.rows) {
    for (const double value : row.values) {
      if (std::isfinite(value)) largest = std::max(largest, value);
    }
  }
  const double left = kEdge + widest(figure, true) + 10;
  const double right = kWidth - kEdge - widest(figure, false) - 6;
  const Axis x(0.0, largest > 0.0 ? largest : 1.0, left, right, false);
  double y = first;
  for (const BarRow& row : figure.rows) {
    const double tall = row_height(figure, row);
    const auto lines = wrapped(row.label, kMostName, kName);
    const double text = line_height(kName) * static_cast<double>(lines.size());
    svg.paragraph({left - 10, y + (tall - text) / 2 + 12}, row.label, kMostName,
                  {kName, Anchor::kEnd});
    double at = y + (tall - bars_height(figure)) / 2;
    for (size_t i = 0; i < figure.series.size(); ++i) {
      if (i < row.values.size() && std::isfinite(row.values[i])) {
        const double end = x.pixel(row.values[i]);
        svg.rectangle({left, at, std::max(end - left, 1.0), kBar}, figure.series[i].colour,
                      row.label + ": " + row.texts[i]);
        double text_left = end + 6;
        if (figure.mark) {  // its line does not go through a text
          const double mark = x.pixel(*figure.mark);
          const bool crosses =
              mark > text_left - 4 && mark < text_left + text_width(row.texts[i], kValue) + 2;
          if (crosses) text_left = mark + 6;
        }
        svg.text({text_left, at + kBar - 3.5}, row.texts[i], {kValue});
      }
      at += kBar + kBetweenBars;
    }
    y += tall + kBetweenRows;
  }
  svg.line({left, first - 4}, {left, y - kBetweenRows + 4}, {kFrame, 1, ""});
  if (figure.mark) {
    const double at = x.pixel(*figure.mark);
    svg.line({at, first - 4}, {at, y - kBetweenRows + 4}, {kRed, 1.2, "5 3"});
  }
  return svg.document();
}

}  // namespace schmidt::report
