#pragma once

#include <algorithm>
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
  /// The weight whole, in integers of few bits. Bonds say nothing then, but for a low rank of
  /// `factor_integers` that is added to it.
  std::optional<quant::IntegerFormat> integers = {};
  /// The factors of a low rank in integers of few bits, in the left-canonical gauge. These are the
  /// groups of the right one.
  std::optional<quant::IntegerFormat> factor_integers = {};
  /// Of a down projection: neurons of its MLP that are kept, the rows of gate and up and the
  /// columns of down. Nothing else is planned of that MLP then.
  std::optional<int64_t> neurons = {};
  bool nf4 = false;  ///< the weight whole, in NF4 with double quantization; without the two above

  bool is_rounded() const { return integers || factor_integers || nf4; }
  int64_t rank() const { return max_bonds.front(); }  ///< of a low rank
  /// Those of the left one: groups of the largest divisor of the rank that is no more than the
  /// right one's and at least half of that, of whole blocks of inputs where there is one, since
  /// products of 8-bit integers ask for that; or else whole rows, whose numbers are of one size.
  quant::IntegerFormat left_integers() const {
    quant::IntegerFormat format = *factor_integers;
    const int64_t most = format.group;
    const auto largest_divisor = [&](int64_t multiple_of) -> int64_t {
      for (int64_t group = std::min(most, rank()); 2 * group >= most; --group) {
        if (rank() % group == 0 && group % multiple_of == 0) return group;
      }
      return 0;
    };
    constexpr int64_t kBlock = 32;
    const int64_t of_blocks = largest_divisor(kBlock);
    const int64_t group = of_blocks > 0 ? of_blocks : largest_divisor(1);
    format.group = group > 0 ? group : rank();
    return format;
  }

  int64_t parameters() const {
    if (neurons) return layer.rows * *neurons;
    if (is_rounded()) {
      return (integers || nf4 ? layer.numel() : 0) +
             (factor_integers ? rank() * (layer.rows + layer.cols) : 0);
    }
    return fixed_gauge ? tn::gauge_fixed_parameter_count(shape, max_bonds)
                       : tn::parameter_count(shape, max_bonds);
  }
};

/// The plan of an MLP, by its down projection, that keeps so many neurons.
inline LayerPlan pruned(const Layer& down, int64_t neurons) {
  return {.layer = down,
          .shape = tn::low_rank_shape(down.rows, down.cols),
          .max_bonds = {1},
          .method = "prune",
          .fixed_gauge = false,
          .neurons = neurons};
}

/// The largest bonds whose parameters fit, stored with a fixed gauge or without; bonds of 1
/// where none do.
inline std::vector<int64_t> bonds_within(const tn::SiteShape& shape, int64_t parameters,
                                         bool fixed_gauge) {
  return fixed_gauge ? tn::gauge_fixed_bonds_for_budget(shape, parameters)
                     : tn::bonds_for_budget(shape, parameters);
}

}  // namespace schmidt::plan
