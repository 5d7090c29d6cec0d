#include "schmidt/plan/allocate.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "schmidt/tn/gauge.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::plan {
namespace {

/// Indices of a curve's lower convex hull, ascending in cost and falling in loss.
std::vector<size_t> lower_hull(const std::vector<Price>& points) {
  const auto slope = [&](size_t a, size_t b) {
    return (points[b].loss - points[a].loss) / static_cast<double>(points[b].cost - points[a].cost);
  };
  std::vector<size_t> hull;
  for (size_t i = 0; i < points.size(); ++i) {
    while (hull.size() >= 2 && slope(hull[hull.size() - 2], hull.back()) >= slope(hull.back(), i)) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  // A measured curve may rise again: more cost for more loss is never taken.
  while (hull.size() >= 2 && points[hull.back()].loss >= points[hull[hull.size() - 2]].loss) {
    hull.pop_back();
  }
  return hull;
}

struct Step {
  size_t curve;
  size_t from, to;  // points
  double gain;      // loss for the cost
};

}  // namespace

LayerCurve predicted_curve(const Layer& layer, const torch::Tensor& squares, double floor,
                           bool fixed_gauge) {
  const int64_t full = std::min(layer.rows, layer.cols);
  TORCH_CHECK_VALUE(squares.dim() == 1 && squares.size(0) == full, "[allocate] expected ", full,
                    " squares for ", layer.name, ", got ", squares.sizes());
  const torch::Tensor wide = squares.to(torch::kFloat64).cpu().contiguous();
  const double* values = wide.const_data_ptr<double>();
  const tn::SiteShape shape = tn::low_rank_shape(layer.rows, layer.cols);
  const auto least = std::max<int64_t>(1, std::lround(floor * static_cast<double>(full)));
  LayerCurve curve{layer, {{layer.numel(), 0.0, {}}}};
  double dropped = 0.0;
  for (int64_t rank = full - 1; rank >= least; --rank) {
    dropped += values[rank];
    const int64_t stored = fixed_gauge ? tn::gauge_fixed_parameter_count(shape, {rank})
                                       : tn::parameter_count(shape, {rank});
    if (stored < layer.numel()) curve.points.push_back({stored, dropped / 2, {rank}});
  }
  std::reverse(curve.points.begin(), curve.points.end());
  return curve;
}

std::vector<size_t> allocate(const std::vector<std::vector<Price>>& curves, int64_t budget) {
  std::vector<Step> steps;
  std::vector<size_t> chosen;
  int64_t used = 0;
  for (size_t c = 0; c < curves.size(); ++c) {
    const std::vector<Price>& points = curves[c];
    TORCH_CHECK_VALUE(!points.empty(), "[allocate] expected points on every curve, got none");
    for (size_t i = 1; i < points.size(); ++i) {
      TORCH_CHECK_VALUE(points[i - 1].cost < points[i].cost,
                        "[allocate] expected ascending costs, got ", points[i - 1].cost, " and ",
                        points[i].cost);
    }
    const std::vector<size_t> hull = lower_hull(points);
    for (size_t i = 1; i < hull.size(); ++i) {
      const Price &from = points[hull[i - 1]], &to = points[hull[i]];
      steps.push_back({c, hull[i - 1], hull[i],
                       (from.loss - to.loss) / static_cast<double>(to.cost - from.cost)});
    }
    chosen.push_back(hull.front());
    used += points[hull.front()].cost;
  }
  TORCH_CHECK_VALUE(used <= budget, "[allocate] expected a budget of at least ", used, ", got ",
                    budget);
  // Along one hull gains fall, so sorting keeps every curve's steps in order.
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.gain > b.gain; });
  for (const Step& step : steps) {
    if (chosen[step.curve] != step.from) continue;  // an earlier step did not fit
    const int64_t more = curves[step.curve][step.to].cost - curves[step.curve][step.from].cost;
    if (used + more > budget) continue;
    chosen[step.curve] = step.to;
    used += more;
  }
  return chosen;
}

std::vector<size_t> allocate(const std::vector<LayerCurve>& curves, int64_t budget) {
  std::vector<std::vector<Price>> prices(curves.size());
  for (size_t c = 0; c < curves.size(); ++c) {
    for (const CurvePoint& point : curves[c].points) {
      prices[c].push_back({point.parameters, point.loss});
    }
  }
  return allocate(prices, budget);
}

CurvePlan plan_by_curves(const std::vector<LayerCurve>& curves, double keep,
                         int64_t model_parameters, const std::string& method, bool fixed_gauge) {
  TORCH_CHECK_VALUE(keep > 0.0 && keep <= 1.0, "[keep] expected a share in (0, 1], got ", keep);
  const auto whole = static_cast<double>(model_parameters);
  int64_t rest = model_parameters, least = 0;
  for (const LayerCurve& curve : curves) {
    rest -= curve.layer.numel() + curve.others;
    least += curve.points.empty() ? 0 : curve.points.front().parameters;
  }
  const int64_t budget = static_cast<int64_t>(std::floor(keep * whole)) - rest;
  TORCH_CHECK_VALUE(budget >= least, "[keep] ",
                    fmt::format("{:.4g} is out of reach: what is not compressed and the least of "
                                "what is keep {:.4f} of the model",
                                keep, static_cast<double>(rest + least) / whole));
  const std::vector<size_t> chosen = allocate(curves, budget);
  CurvePlan plan;
  for (size_t c = 0; c < curves.size(); ++c) {
    const Layer& layer = curves[c].layer;
    const CurvePoint& point = curves[c].points[chosen[c]];
    plan.loss += point.loss;
    if (point.neurons) {
      plan.layers.push_back(pruned(layer, *point.neurons));
      continue;
    }
    if (point.bonds.empty()) continue;
    plan.layers.push_back(
        {layer, tn::low_rank_shape(layer.rows, layer.cols), point.bonds, method, fixed_gauge});
  }
  return plan;
}

}  // namespace schmidt::plan
