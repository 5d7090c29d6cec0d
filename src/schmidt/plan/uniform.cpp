#include "schmidt/plan/uniform.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace schmidt::plan {

tn::SiteShape ShapeChoice::shape_for(const Layer& layer) const {
  if (by_hand) {
    const auto product = [](const std::vector<int64_t>& dims) {
      return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
    };
    TORCH_CHECK_VALUE(
        by_hand->out_dims.size() == by_hand->in_dims.size() && by_hand->out_dims.size() >= 2,
        "[sites] expected two or more out-dims and as many in-dims, got ", by_hand->out_dims.size(),
        " and ", by_hand->in_dims.size());
    TORCH_CHECK_VALUE(
        product(by_hand->out_dims) == layer.rows && product(by_hand->in_dims) == layer.cols,
        "[sites] ", layer.name, " is ", layer.rows, " x ", layer.cols,
        "; the given sites multiply out to ", product(by_hand->out_dims), " x ",
        product(by_hand->in_dims));
    return *by_hand;
  }
  if (low_rank) return tn::low_rank_shape(layer.rows, layer.cols);
  TORCH_CHECK_VALUE(sites >= 2, "[sites] expected 2 or more sites, got ", sites);
  return tn::balanced_shape(layer.rows, layer.cols, sites);
}

std::vector<LayerPlan> plan_bond(const std::vector<Layer>& layers, const ShapeChoice& shape,
                                 int64_t bond) {
  TORCH_CHECK_VALUE(bond >= 1, "[bond] expected a bond dimension of 1 or more, got ", bond);
  std::vector<LayerPlan> plans;
  for (const Layer& layer : layers) {
    LayerPlan plan{.layer = layer, .shape = shape.shape_for(layer)};
    plan.fixed_gauge = shape.fixed_gauge;
    for (const int64_t full : tn::full_bonds(plan.shape))
      plan.max_bonds.push_back(std::min(bond, full));
    plans.push_back(std::move(plan));
  }
  return plans;
}

std::vector<LayerPlan> plan_keep(const std::vector<Layer>& layers, const ShapeChoice& shape,
                                 double keep, int64_t model_parameters) {
  TORCH_CHECK_VALUE(keep > 0.0 && keep <= 1.0, "[keep] expected a share in (0, 1], got ", keep);
  if (keep == 1.0) return {};
  int64_t selected = 0;
  for (const Layer& layer : layers) selected += layer.numel();
  const double removed = (1.0 - keep) * static_cast<double>(model_parameters);
  const double share = 1.0 - removed / static_cast<double>(selected);

  const auto share_left = [&](const std::vector<LayerPlan>& plans) {
    int64_t left = model_parameters - selected;
    for (const LayerPlan& plan : plans) left += plan.parameters();
    return static_cast<double>(left) / static_cast<double>(model_parameters);
  };

  std::vector<LayerPlan> plans;
  for (const Layer& layer : layers) {
    LayerPlan plan{.layer = layer, .shape = shape.shape_for(layer)};
    plan.fixed_gauge = shape.fixed_gauge;
    const auto budget =
        static_cast<int64_t>(std::floor(share * static_cast<double>(layer.numel())));
    plan.max_bonds = bonds_within(plan.shape, budget, shape.fixed_gauge);
    plans.push_back(std::move(plan));
  }
  TORCH_CHECK_VALUE(
      share_left(plans) <= keep, "[keep] ",
      fmt::format(
          "{:.4g} is out of reach: the selected layers hold {:.1f} % of the parameters, and "
          "at bond 1 the model keeps {:.4f}",
          keep, 100.0 * static_cast<double>(selected) / static_cast<double>(model_parameters),
          share_left(plan_bond(layers, shape, 1))));
  return plans;
}

}  // namespace schmidt::plan
