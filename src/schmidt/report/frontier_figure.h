#pragma once

#include <string>
#include <utility>
#include <vector>

namespace schmidt::report {

/// One way to spend a budget: points (cost, predicted loss in nats a token), the least cost first.
struct FrontierCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

/// What costs are counted in.
struct CostAxis {
  std::string title, label, unit;
};
inline const CostAxis kMegabytes{"What a size is predicted to cost", "MB of all weights", "MB"};

/// Predicted loss against cost, a line for each curve, the first one drawn bold. A document of
/// SVG.
std::string frontier_svg(const std::vector<FrontierCurve>& curves,
                         const CostAxis& axis = kMegabytes);

}  // namespace schmidt::report
