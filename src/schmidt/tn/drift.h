#pragma once

#include <torch/types.h>

namespace schmidt::tn {

struct DriftOptions {
  double beta = 1.0;    ///< in [0, 1]: 0 gives W itself, 1 the full correction
  double ridge = 1e-4;  ///< added to G', in units of the mean of its diagonal; > 0
};

/// The matrix that a layer should have once the layers before it have changed its
/// inputs from x to x': the minimum of E|W x - T x'|^2 over T,
///
///   T = W E[x x'^T] G'^{-1} = W + W (E[x x'^T] - G') G'^{-1},   G' = E[x' x'^T],
///
/// of which the second form is used, so that the ridge draws T towards W where x'
/// says nothing. Of every approximation W' of T, E|W x - W' x'|^2 exceeds its
/// minimum by the squared norm of T - W' in the metric G': approximate T in it.
/// The result is beta T + (1 - beta) W [m, n], in W's dtype (float32 for a half
/// type).
///   w [m, n], cross = E[x x'^T] [n, n], moments = G' [n, n].
/// Throws c10::ValueError if shapes or options do not fit, or an entry is not finite.
/// Source: the drifted target of SAES-SVD.
torch::Tensor drift_target(const torch::Tensor& w, const torch::Tensor& cross,
                           const torch::Tensor& moments, const DriftOptions& options = {});

}  // namespace schmidt::tn
