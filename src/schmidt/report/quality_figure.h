#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace schmidt::report {

/// A model as a point: what it costs, and how far it is from right. Less is better in both.
struct MeasuredPoint {
  std::string name;
  double cost = 0.0, loss = 0.0;
  bool is_original = false;
};

/// Places of the points that no other is better than in both, the least cost first. A point of
/// the same cost and loss as an earlier one is not among them; nor is one that is not finite.
std::vector<size_t> frontier_of(const std::vector<MeasuredPoint>& points);

struct QualityLabels {
  std::string title, cost, loss;
};

/// Every point with its name, and the frontier as steps: what a given cost buys. Axes are
/// logarithmic where their values are above 0 and span a factor of 8 or more. Points that are not
/// finite are left out. A document of SVG.
std::string quality_svg(const QualityLabels& labels, const std::vector<MeasuredPoint>& points);

}  // namespace schmidt::report
