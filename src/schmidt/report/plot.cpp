#include "schmidt/report/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace schmidt::report {
namespace {

// Around the plot in its cell.
constexpr double kLeft = 62.0, kTop = 46.0, kRight = 14.0, kBottom = 44.0;
constexpr double kLogFrom = 30.0;
constexpr double kCharacter = 6.2;  // width of one in the legend, about

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

bool is_finite(const CurvePoint& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

Axis value_axis(Range range, const Box& plot, bool linear) {
  const bool log = !linear && range.low > 0.0 && range.high >= kLogFrom * range.low;
  if (log) return Axis(range.low / 1.1, range.high * 1.1, plot.bottom(), plot.top, true);
  const double room = 0.06 * (range.high - range.low);
  // A quantity that is never negative shows no negative values.
  const double low = range.low >= 0.0 ? std::max(range.low - room, 0.0) : range.low - room;
  return Axis(low, range.high + room, plot.bottom(), plot.top, false);
}

void draw_curve(Svg& svg, const Curve& curve, const Axis& x, const Axis& y) {
  std::vector<Spot> line;
  for (const CurvePoint& point : curve.points) {
    if (is_finite(point)) line.push_back({x.pixel(point.x), y.pixel(point.y)});
  }
  if (curve.width > 0.0) svg.polyline(line, {curve.colour, curve.width, ""}, curve.name);
  if (curve.radius == 0.0) return;
  for (const CurvePoint& point : curve.points) {
    if (!is_finite(point)) continue;
    svg.dot({x.pixel(point.x), y.pixel(point.y)}, curve.radius, curve.colour, point.tip);
  }
}

void draw_legend(Svg& svg, const Box& plot, const std::vector<Curve>& curves) {
  double right = plot.right();
  for (auto curve = curves.rbegin(); curve != curves.rend(); ++curve) {
    if (curve->name.empty()) continue;
    const double width = kCharacter * static_cast<double>(curve->name.size());
    const double y = plot.top - 7;
    svg.text({right - width, y}, curve->name, {11});
    const double end = right - width - 5;
    if (curve->width > 0.0) svg.line({end - 18, y - 4}, {end, y - 4}, {curve->colour, 2, ""});
    if (curve->radius > 0.0) svg.dot({end - 9, y - 4}, 3, curve->colour);
    right = end - 32;
  }
}

}  // namespace

void draw_axes(Svg& svg, const Box& plot, const Axis& x, const Axis& y) {
  for (const Axis::Tick& tick : y.ticks(5)) {
    const double at = y.pixel(tick.value);
    svg.line({plot.left, at}, {plot.right(), at}, {"#e8e8e8", 1, ""});
    svg.text({plot.left - 5, at + 3.5}, tick.label, {10, Anchor::kEnd});
  }
  for (const Axis::Tick& tick : x.ticks(8)) {
    const double at = x.pixel(tick.value);
    svg.line({at, plot.bottom()}, {at, plot.bottom() + 4}, {"#888", 1, ""});
    svg.text({at, plot.bottom() + 15}, tick.label, {10, Anchor::kMiddle});
  }
  svg.frame(plot, {"#888", 1, ""});
}

void draw_curves(Svg& svg, const Box& cell, const PlotLabels& labels,
                 const std::vector<Curve>& curves) {
  const Box plot = {cell.left + kLeft, cell.top + kTop, cell.width - kLeft - kRight,
                    cell.height - kTop - kBottom};
  Range across, up;
  for (const Curve& curve : curves) {
    for (const CurvePoint& point : curve.points) {
      if (!is_finite(point)) continue;
      across.add(point.x);
      up.add(point.y);
    }
  }
  svg.text({plot.left, cell.top + 17}, labels.title, {13, Anchor::kStart, "#111", true});
  if (across.low > across.high) {
    svg.frame(plot, {"#888", 1, ""});
    svg.text({plot.left + plot.width / 2, plot.top + plot.height / 2}, "no values",
             {12, Anchor::kMiddle, "#888"});
    return;
  }
  const Axis x(across.low, across.high, plot.left + 4, plot.right() - 4, false);
  const Axis y = value_axis(up, plot, labels.linear);
  draw_axes(svg, plot, x, y);
  for (const Curve& curve : curves) draw_curve(svg, curve, x, y);
  draw_legend(svg, plot, curves);
  svg.text({plot.left + plot.width / 2, plot.bottom() + 32}, labels.x, {11, Anchor::kMiddle});
  svg.text({cell.left + 14, plot.top + plot.height / 2}, labels.y,
           {11, Anchor::kMiddle, "#333", false, 90});
}

}  // namespace schmidt::report
