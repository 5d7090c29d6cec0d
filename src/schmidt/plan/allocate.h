#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/plan/plan.h"

namespace schmidt::plan {

/// What a layer costs and what it loses at one setting.
struct CurvePoint {
  int64_t parameters = 0;               ///< stored
  double loss = 0.0;                    ///< of quality, the less the better; of the whole model
  std::vector<int64_t> bonds;           ///< empty: the layer stays dense
  std::optional<int64_t> neurons = {};  ///< of its MLP that are kept, in place of bonds
};

/// A layer's loss of quality against its parameters, measured or predicted.
struct LayerCurve {
  Layer layer;
  std::vector<CurvePoint> points;  ///< parameters ascending; at least one
  int64_t others = 0;  ///< parameters of dense layers that shrink with it, counted in the points
};

/// The curve that a layer's Fisher spectrum predicts for a low rank, stored without its
/// gauge or with it: half of the dropped squares [min(m, n)] at every rank from `floor` of
/// the full one up that takes less than the dense layer, which is the last point.
LayerCurve predicted_curve(const Layer& layer, const torch::Tensor& squares, double floor,
                           bool fixed_gauge = true);

/// What something costs and what it loses in one of the ways to have it.
struct Price {
  int64_t cost = 0;
  double loss = 0.0;
};

/// Which point of each curve to take, so that all together cost at most `budget` at the least
/// sum of losses that a walk along the lower convex hulls finds: from every curve's cheapest
/// point, always the step that gains the most for its cost. What is left of the budget goes to
/// later steps that still fit.
/// Throws c10::ValueError, naming the least that can be had, if the cheapest points
/// exceed the budget, or a curve is empty or its costs do not ascend.
std::vector<size_t> allocate(const std::vector<std::vector<Price>>& curves, int64_t budget);

/// The same of layers, their parameters being the cost.
std::vector<size_t> allocate(const std::vector<LayerCurve>& curves, int64_t budget);

struct CurvePlan {
  std::vector<LayerPlan> layers;  ///< those that stay dense left out
  double loss = 0.0;              ///< the sum of what the points lose
};

/// The plan that spends `keep` of `model_parameters`: every curve's layer at the
/// chosen point by `method`.
/// Throws c10::ValueError unless 0 < keep <= 1, and, naming the least keep that can be
/// had, where the cheapest points would keep more.
CurvePlan plan_by_curves(const std::vector<LayerCurve>& curves, double keep,
                         int64_t model_parameters, const std::string& method,
                         bool fixed_gauge = true);

}  // namespace schmidt::plan
