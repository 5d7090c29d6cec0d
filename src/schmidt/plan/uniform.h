#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "schmidt/plan/plan.h"

namespace schmidt::plan {

/// How a layer's indices are split into sites.
struct ShapeChoice {
  int64_t sites = 2;                     ///< >= 2; balanced over the divisors
  bool low_rank = false;                 ///< (m, 1) x (1, n) instead
  std::optional<tn::SiteShape> by_hand;  ///< has to multiply out for every layer
  bool fixed_gauge = true;               ///< as in LayerPlan

  /// Throws c10::ValueError if the choice does not fit a matrix [m, n].
  tn::SiteShape shape_for(const Layer& layer) const;
};

/// Every layer cut at the same bond dimension, or less where a cut has a smaller
/// full bond. Throws c10::ValueError if bond < 1.
std::vector<LayerPlan> plan_bond(const std::vector<Layer>& layers, const ShapeChoice& shape,
                                 int64_t bond);

/// Every layer cut to the same share of its parameters, so that the whole model
/// keeps at most `keep` of `model_parameters`. Layers whose share is 1 are left
/// out: they stay dense.
/// Throws c10::ValueError unless 0 < keep <= 1, and, naming the least keep that
/// can be had, where even bonds of 1 would keep more.
std::vector<LayerPlan> plan_keep(const std::vector<Layer>& layers, const ShapeChoice& shape,
                                 double keep, int64_t model_parameters);

}  // namespace schmidt::plan
