#include "schmidt/report/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "schmidt/report/text_layout.h"

namespace schmidt::report {
namespace {

constexpr double kEdge = 10.0;  // between the cell and what it holds
constexpr double kText = 11.0, kTitleText = 13.0;
constexpr double kLogFrom = 30.0;

/// What the axes have to hold.
struct Extent {
  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low;
  double y_low = x_low, y_high = -x_low;  // y_high: of the values that are shown
  size_t beyond = 0;                      // values above y_high
  double largest = -x_low;
  bool log = false;
};

bool is_finite(const CurvePoint& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

Extent extent_of(const std::vector<Curve>& curves, const PlotLabels& labels) {
  Extent extent;
  std::vector<double> values;
  for (const Curve& curve : curves) {
    for (const CurvePoint& point : curve.points) {
      if (!is_finite(point)) continue;
      extent.x_low = std::min(extent.x_low, point.x);
      extent.x_high = std::max(extent.x_high, point.x);
      values.push_back(point.y);
    }
  }
  if (values.empty()) return extent;
  const auto [least, largest] = std::minmax_element(values.begin(), values.end());
  extent.y_low = *least;
  extent.largest = *largest;
  extent.log = !labels.linear && *least > 0.0 && *largest >= kLogFrom * *least;
  extent.y_high = largest_shown(values, extent.log);
  extent.beyond = static_cast<size_t>(
      std::ranges::count_if(values, [&](double value) { return value > extent.y_high; }));
  // What is left may be narrow: round values of a linear axis tell more then.
  extent.log = extent.log && extent.y_high >= kLogFrom * extent.y_low;
  if (labels.original && (!extent.log || *labels.original > 0.0)) {
    extent.y_low = std::min(extent.y_low, *labels.original);
    extent.y_high = std::max(extent.y_high, *labels.original);
  }
  return extent;
}

Axis value_axis(const Extent& extent, double bottom, double top) {
  if (extent.log) return Axis(extent.y_low / 1.1, extent.y_high * 1.1, bottom, top, true);
  const double room = 0.06 * (extent.y_high - extent.y_low);
  // A quantity that is never negative shows no negative values.
  const double low = extent.y_low >= 0.0 ? std::max(extent.y_low - room, 0.0) : extent.y_low - room;
  return Axis(low, extent.y_high + room, bottom, top, false);
}

void draw_curve(Svg& svg, const Curve& curve, const Axis& x, const Axis& y, const Extent& extent) {
  std::vector<Spot> line;
  for (const CurvePoint& point : curve.points) {
    if (is_finite(point)) line.push_back({x.pixel(point.x), y.pixel(point.y)});
  }
  if (curve.width > 0.0) svg.polyline(line, {curve.colour, curve.width, ""}, curve.name);
  for (const CurvePoint& point : curve.points) {
    if (!is_finite(point)) continue;
    const Spot at = {x.pixel(point.x), y.pixel(point.y)};
    if (point.y > extent.y_high) {
      svg.arrowhead(at, curve.colour, point.tip);
    } else if (curve.radius > 0.0) {
      svg.dot(at, curve.radius, curve.colour, point.tip);
    }
  }
}

struct LegendEntry {
  std::string name;
  Stroke stroke = {};  // of width 0: no line
  double radius = 0.0;
  bool arrowhead = false;
};

std::vector<LegendEntry> legend_of(const std::vector<Curve>& curves, const PlotLabels& labels,
                                   const Extent& extent) {
  std::vector<LegendEntry> entries;
  for (const Curve& curve : curves) {
    if (curve.name.empty()) continue;
    entries.push_back({curve.name,
                       {curve.colour, curve.width > 0.0 ? 2.0 : 0.0, ""},
                       curve.radius > 0.0 ? 3.0 : 0.0});
  }
  if (labels.original) {
    const bool hidden = extent.log && *labels.original <= 0.0;
    entries.push_back({fmt::format("the original: {}{}", short_number(*labels.original),
                                   hidden ? ", below a logarithmic axis" : ""),
                       {kRed, 1.4, "5 3"}});
  }
  if (extent.beyond > 0) {
    entries.push_back(
        {fmt::format("{} beyond the axis, up to {:.3g}", extent.beyond, extent.largest),
         {kInk, 0.0, ""},
         0.0,
         true});
  }
  return entries;
}

/// Samples and names, row after row from `top`. Returns where the last row ends.
double draw_legend(Svg& svg, const Box& cell, double top, const std::vector<LegendEntry>& entries) {
  constexpr double kSample = 18.0, kGap = 6.0, kBetween = 14.0;
  const double left = cell.left + kEdge, right = cell.right() - kEdge;
  const double step = line_height(kText);
  double x = left, y = top;
  for (const LegendEntry& entry : entries) {
    const double width = kSample + kGap + text_width(entry.name, kText);
    if (x > left && x + width > right) {
      x = left;
      y += step;
    }
    const Spot middle = {x + kSample / 2, y + step / 2};
    if (entry.stroke.width > 0.0) {
      svg.line({x, middle.y}, {x + kSample, middle.y}, entry.stroke);
    }
    if (entry.radius > 0.0) svg.dot(middle, entry.radius, entry.stroke.colour);
    if (entry.arrowhead) svg.arrowhead({middle.x, middle.y - 4}, kInk);
    const double lines = svg.paragraph({x + kSample + kGap, y + step / 2 + 4}, entry.name,
                                       right - x - kSample - kGap, {kText});
    y += lines - step;
    x += width + kBetween;
  }
  return entries.empty() ? top : y + step;
}

}  // namespace

double labels_width(const Axis& y) {
  double width = 0.0;
  for (const Axis::Tick& tick : y.ticks(5)) {
    width = std::max(width, text_width(tick.label, kTickSize));
  }
  return width + 5;
}

void draw_axes(Svg& svg, const Box& plot, const Axis& x, const Axis& y) {
  for (const Axis::Tick& tick : y.ticks(5)) {
    const double at = y.pixel(tick.value);
    svg.line({plot.left, at}, {plot.right(), at}, {kGrid, 1, ""});
    svg.text({plot.left - 5, at + 3.5}, tick.label, {kTickSize, Anchor::kEnd});
  }
  for (const Axis::Tick& tick : x.ticks_side_by_side(kTickSize)) {
    const double at = x.pixel(tick.value);
    svg.line({at, plot.bottom()}, {at, plot.bottom() + 4}, {kFrame, 1, ""});
    svg.text({at, plot.bottom() + 17}, tick.label, {kTickSize, Anchor::kMiddle});
  }
  svg.frame(plot, {kFrame, 1, ""});
}

void draw_curves(Svg& svg, const Box& cell, const PlotLabels& labels,
                 const std::vector<Curve>& curves) {
  const Extent extent = extent_of(curves, labels);
  const bool empty = extent.x_low > extent.x_high;
  const double inside = cell.width - 2 * kEdge;
  double top = cell.top + kEdge;
  top += svg.paragraph({cell.left + kEdge, top + 11}, labels.title, inside,
                       {kTitleText, Anchor::kStart, kTitle, true});
  if (!empty) top = draw_legend(svg, cell, top + 2, legend_of(curves, labels, extent));
  top += 8;
  const double bottom = cell.bottom() - kEdge - 22 - line_height(kText);
  // Where the labels end decides where the plot begins; the same ticks whatever the left edge.
  const Axis y = empty ? Axis(0, 1, bottom, top, false) : value_axis(extent, bottom, top);
  const auto y_label = wrapped(labels.y, bottom - top, kText);
  const double label_lines =
      labels.y.empty() ? 0.0 : line_height(kText) * static_cast<double>(y_label.size());
  const double left = cell.left + kEdge + label_lines + 6 + (empty ? 0.0 : labels_width(y));
  const Box plot = {left, top, cell.right() - kEdge - 10 - left, bottom - top};
  if (empty) {
    svg.frame(plot, {kFrame, 1, ""});
    svg.text({plot.left + plot.width / 2, plot.top + plot.height / 2}, "no values",
             {12, Anchor::kMiddle, kPale});
    return;
  }
  const Axis x(extent.x_low, extent.x_high, plot.left + 4, plot.right() - 4, false);
  draw_axes(svg, plot, x, y);
  if (labels.original && (!extent.log || *labels.original > 0.0)) {
    const double at = y.pixel(*labels.original);
    svg.line({plot.left, at}, {plot.right(), at}, {kRed, 1.4, "5 3"});
  }
  for (const Curve& curve : curves) draw_curve(svg, curve, x, y, extent);
  svg.text({plot.left + plot.width / 2, plot.bottom() + 22 + 11}, labels.x,
           {kText, Anchor::kMiddle});
  if (labels.y.empty()) return;
  svg.paragraph({cell.left + kEdge + 9, plot.top + plot.height / 2}, labels.y, plot.height,
                {kText, Anchor::kMiddle, kInk, false, 90});
}

}  // namespace schmidt::report
