#include "schmidt/report/quality_figure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "schmidt/report/axis.h"
#include "schmidt/report/plot.h"
#include "schmidt/report/svg.h"
#include "schmidt/report/text_layout.h"

namespace schmidt::report {
namespace {

constexpr Box kFigureBox = {0, 0, 460, 380};
constexpr double kRim = 12.0, kHeadline = 13.0, kAxisName = 11.0, kPointName = 11.0;
constexpr double kDot = 4.5;
constexpr double kFactor = 8.0;  // from which an axis is logarithmic
constexpr double kNameHeight = 13.0;
constexpr size_t kMostName = 24;  // characters of a point's name

bool is_shown(const MeasuredPoint& point) {
  return std::isfinite(point.cost) && std::isfinite(point.loss);
}

Axis axis_of(const std::vector<double>& values, double from, double to) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  if (*least > 0.0 && *most >= kFactor * *least) {
    return Axis(*least / 1.3, *most * 1.3, from, to, true);
  }
  const double room = 0.08 * (*most - *least);
  return Axis(*least >= 0.0 ? std::max(*least - room, 0.0) : *least - room, *most + room, from, to,
              false);
}

bool overlap(const Box& a, const Box& b) {
  return a.left < b.right() && b.left < a.right() && a.top < b.bottom() && b.top < a.bottom();
}

double distance(const Box& box, Spot spot) {
  const double x = std::max({box.left - spot.x, 0.0, spot.x - box.right()});
  const double y = std::max({box.top - spot.y, 0.0, spot.y - box.bottom()});
  return std::hypot(x, y);
}

/// Where a name goes: the nearest place to its point that nothing else takes; none where the plot
/// is full.
std::optional<Box> free_place(Spot point, double width, const Box& plot,
                              const std::vector<Box>& taken) {
  constexpr double kStep = 3.0, kGap = 3.0;
  std::optional<Box> best;
  double nearest = std::numeric_limits<double>::infinity();
  for (double top = plot.top + 2; top + kNameHeight < plot.bottom() - 2; top += kStep) {
    for (double left = plot.left + 3; left + width < plot.right() - 3; left += kStep) {
      const Box box = {left, top, width, kNameHeight};
      // Beside its point is where a reader looks first.
      const bool beside = std::abs(top + kNameHeight / 2 - point.y) < kStep;
      const double away = distance(box, point) + (beside ? 0.0 : 1.5) +
                          (left > point.x ? 0.0 : 0.5) + 0.01 * std::abs(top - point.y);
      if (away >= nearest || distance(box, point) < kDot + kGap) continue;
      if (std::ranges::any_of(taken, [&](const Box& other) { return overlap(box, other); })) {
        continue;
      }
      best = box;
      nearest = away;
    }
  }
  return best;
}

std::string shortened(const std::string& name) {
  size_t characters = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(name[i]) & 0xC0U) != 0x80;
    if (begins && ++characters > kMostName) return name.substr(0, i) + "…";
  }
  return name;
}

void draw_points(Svg& svg, const Box& plot, const Axis& x, const Axis& y,
                 const std::vector<MeasuredPoint>& points) {
  const std::vector<size_t> frontier = frontier_of(points);
  std::vector<Spot> steps;
  for (const size_t i : frontier) {
    const Spot at = {x.pixel(points[i].cost), y.pixel(points[i].loss)};
    if (!steps.empty()) steps.push_back({at.x, steps.back().y});
    steps.push_back(at);
  }
  if (!steps.empty()) steps.push_back({plot.right(), steps.back().y});
  svg.polyline(steps, {kPaleBlue, 2.0, ""});
  std::vector<Box> taken;
  for (size_t i = 1; i < steps.size(); ++i) {  // each across or down
    const auto [left, right] = std::minmax(steps[i - 1].x, steps[i].x);
    const auto [upper, lower] = std::minmax(steps[i - 1].y, steps[i].y);
    taken.push_back({left - 1, upper - 1, right - left + 2, lower - upper + 2});
  }
  for (const MeasuredPoint& point : points) {
    if (!is_shown(point)) continue;
    const Spot at = {x.pixel(point.cost), y.pixel(point.loss)};
    taken.push_back({at.x - kDot - 2, at.y - kDot - 2, 2 * kDot + 4, 2 * kDot + 4});
  }
  for (size_t i = 0; i < points.size(); ++i) {
    const MeasuredPoint& point = points[i];
    if (!is_shown(point)) continue;
    const Spot at = {x.pixel(point.cost), y.pixel(point.loss)};
    const bool leads = std::ranges::find(frontier, i) != frontier.end();
    const std::string name = shortened(point.name);
    const double width = text_width(name, kPointName);
    const auto place = free_place(at, width, plot, taken);
    if (place) {
      if (distance(*place, at) > 14.0) {
        svg.line(at,
                 {std::clamp(at.x, place->left, place->right()),
                  std::clamp(at.y, place->top, place->bottom())},
                 {kFrame, 0.8, ""});
      }
      svg.text({place->left, place->bottom() - 3}, name, {kPointName});
      taken.push_back({place->left - 2, place->top, place->width + 4, place->height});
    }
    const Colour colour = point.is_original ? kRed : leads ? kBlue : kFrame;
    svg.dot(at, kDot, colour,
            fmt::format("{}: {:.5g}, {:.5g}", point.name, point.cost, point.loss));
  }
}

}  // namespace

std::vector<size_t> frontier_of(const std::vector<MeasuredPoint>& points) {
  std::vector<size_t> order;
  for (size_t i = 0; i < points.size(); ++i) {
    if (is_shown(points[i])) order.push_back(i);
  }
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return std::pair(points[a].cost, points[a].loss) < std::pair(points[b].cost, points[b].loss);
  });
  std::vector<size_t> frontier;
  for (const size_t i : order) {
    if (frontier.empty() || points[i].loss < points[frontier.back()].loss) frontier.push_back(i);
  }
  return frontier;
}

std::string quality_svg(const QualityLabels& labels, const std::vector<MeasuredPoint>& points) {
  Svg svg(kFigureBox.width, kFigureBox.height);
  double top = kRim;
  top += svg.paragraph({kRim, top + 11}, labels.title, kFigureBox.width - 2 * kRim,
                       {kHeadline, Anchor::kStart, kTitle, true});
  top += 10;
  std::vector<double> costs, losses;
  for (const MeasuredPoint& point : points) {
    if (!is_shown(point)) continue;
    costs.push_back(point.cost);
    losses.push_back(point.loss);
  }
  if (costs.empty()) return svg.document();
  const double bottom = kFigureBox.height - kRim - 22 - line_height(kAxisName);
  const Axis y = axis_of(losses, bottom, top);
  const auto loss_lines = wrapped(labels.loss, bottom - top, kAxisName).size();
  const double left =
      kRim + line_height(kAxisName) * static_cast<double>(loss_lines) + 6 + labels_width(y);
  const Box plot = {left, top, kFigureBox.width - kRim - 8 - left, bottom - top};
  const Axis x = axis_of(costs, plot.left, plot.right());
  draw_axes(svg, plot, x, y);
  draw_points(svg, plot, x, y, points);
  svg.text({plot.left + plot.width / 2, plot.bottom() + 33}, labels.cost,
           {kAxisName, Anchor::kMiddle});
  svg.paragraph({kRim + 9, plot.top + plot.height / 2}, labels.loss, plot.height,
                {kAxisName, Anchor::kMiddle, kInk, false, 90});
  return svg.document();
}

}  // namespace schmidt::report
