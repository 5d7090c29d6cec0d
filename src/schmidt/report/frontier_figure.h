#pragma once

#include <string>
#include <utility>
#include <vector>

namespace schmidt::report {

/// One way to spend bytes: points (megabytes, predicted loss in nats a token), the least bytes
/// first.
struct FrontierCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

/// Predicted loss against bytes, a line for each curve, the first one drawn bold. A document of
/// SVG.
std::string frontier_svg(const std::vector<FrontierCurve>& curves);

}  // namespace schmidt::report
