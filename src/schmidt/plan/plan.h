#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/plan/layers.h"
#include "schmidt/quant/integer_format.h"
#include "schmidt/tn/gauge.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::plan {

/// What becomes of one layer.
struct LayerPlan {
  Layer layer;
  tn::SiteShape shape;
  std::vector<int64_t> max_bonds;  ///< one for each cut
  std::string method = "tt-svd";   ///< a name of `methods`
  bool fixed_gauge = true;         ///< stored without the freedom of its bonds
  /// The weight stays whole, in integers of few bits; shape and bonds say nothing then.
  std::optional<quant::IntegerFormat> integers = {};

  int64_t parameters() const {
    if (integers) return layer.numel();
    return fixed_gauge ? tn::gauge_fixed_parameter_count(shape, max_bonds)
                       : tn::parameter_count(shape, max_bonds);
  }
};

/// The largest bonds whose parameters fit, stored with a fixed gauge or without; bonds of 1
/// where none do.
inline std::vector<int64_t> bonds_within(const tn::SiteShape& shape, int64_t parameters,
                                         bool fixed_gauge) {
  return fixed_gauge ? tn::gauge_fixed_bonds_for_budget(shape, parameters)
                     : tn::bonds_for_budget(shape, parameters);
}

}  // namespace schmidt::plan
