#pragma once

#include <torch/types.h>

namespace schmidt::calibrate {

/// The diagonal of the Fisher information of a weight W [m, n], as a sum of k outer products:
///
///   F_ij = E[g_i^2 x_j^2]  ~  sum_k rows_ik columns_kj
///
/// x the layer's inputs and g the gradient, at its outputs, of log p(next token), tokens drawn
/// from the model. Errors D of W that know nothing of each other, as those of rounding to the
/// nearest, cost 1/2 sum F_ij D_ij^2 nats a token. One product has the sums of F over rows and
/// over columns: unlike E[g g^T] and E[x x^T] it knows that the tokens with the largest inputs
/// are not those with the largest gradients.
struct DiagonalFisher {
  torch::Tensor rows;     ///< [m, k], float32
  torch::Tensor columns;  ///< [k, n], float32

  /// Half of the sum of F_ij D_ij^2, D [m, n].
  double loss(const torch::Tensor& d) const;

  /// How much each column counts [n], summed over rows.
  torch::Tensor column_weights() const;
};

}  // namespace schmidt::calibrate
