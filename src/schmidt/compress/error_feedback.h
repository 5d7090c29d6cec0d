#pragma once

#include <torch/types.h>

#include "schmidt/compress/integer_grid.h"

namespace schmidt::compress {

/// What error feedback adds to the moments of inputs, relative to their mean: of 0.01, 0.1, 1 and
/// 10 the best for SmolLM2's output layer at 2 bits, and as good as any at 4.
inline constexpr double kFeedbackDamping = 0.1;

/// Rounds the columns of W [m, n] one after the other, and moves those that are still to come so
/// that they make up for what the rounded ones have lost, in the norm of G = E[x x^T] [n, n]:
///
///   q_j = nearest(w_j),   w_k -= (w_j - s (q_j - z)) f_jk  for k > j,   F^T D F = G^{-1}
///
/// F [n, n] has ones on its diagonal and zeros below.
/// Source: Frantar et al. 2022, arXiv:2210.17323 (GPTQ).
class ErrorFeedback {
 public:
  /// G symmetric, finite. `damping` times the mean of its diagonal is added to it.
  ErrorFeedback(const torch::Tensor& moments, double damping);

  /// Codes of that grid, float32 [m, n].
  torch::Tensor codes(const torch::Tensor& w, const IntegerGrid& grid) const;

 private:
  torch::Tensor feedback_;  // F
};

}  // namespace schmidt::compress
