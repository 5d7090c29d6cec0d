#pragma once

#include <optional>

#include <torch/types.h>

#include "schmidt/tn/positive.h"

namespace schmidt::tn {

struct DriftOptions {
  double beta = 1.0;    ///< in [0, 1]: 0 gives W itself, 1 the full correction
  double ridge = 1e-4;  ///< added to G', in units of the mean of its diagonal; > 0
};

/// What a layer should be once the layers before it have changed its inputs from x to
/// x': with cross = E[x x'^T] and G' = E[x' x'^T], both [n, n], E|W x - W' x'|^2 is
/// least for W' = W T,
///
///   T = cross G'^{-1} = 1 + (cross - G') G'^{-1},
///
/// of which the second form is used, so that the ridge draws T towards 1 where x'
/// says nothing. Of every approximation W' of W T, E|W x - W' x'|^2 exceeds its
/// minimum by the squared norm of W T - W' in the norm G': approximate W T in it.
/// `beta` blends T with 1. For one thread at a time.
/// Source: the drifted target of SAES-SVD.
class DriftMap {
 public:
  /// Throws c10::ValueError if shapes or options do not fit, or an entry is not finite.
  DriftMap(torch::Tensor cross, torch::Tensor moments, const DriftOptions& options = {});

  /// rows [k, n] -> beta rows T + (1 - beta) rows [k, n], in their dtype (float32 for a
  /// half type). Computed in float64, in float32 for more than 2048 columns of
  /// another type. Throws c10::ValueError if they do not fit or are not finite.
  torch::Tensor apply(const torch::Tensor& rows) const;

 private:
  torch::Tensor change(const torch::Tensor& differences) const;
  const RidgeSolver& solver() const;

  torch::Tensor moments_;     // [n, n]
  torch::Tensor difference_;  // cross - G' [n, n], in the type that is computed in
  double beta_, ridge_;
  mutable std::optional<RidgeSolver> solver_;  // once something follows the drift
  mutable torch::Tensor map_;  // beta T + (1 - beta) [n, n], once it is worth forming
};

}  // namespace schmidt::tn
