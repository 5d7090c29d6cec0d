#pragma once

#include <torch/types.h>

#include "schmidt/calibrate/diagonal_fisher.h"

namespace schmidt::calibrate {

/// The Fisher information of a weight W [m, n] whose rows meet nothing of each other, as those of
/// an embedding and, nearly, of an output layer, as a sum over its k uses (2 of a tied pair):
///
///   an error D of W costs  1/2 sum_ik rows_ik D_i M_k D_i^T  nats a token
///
/// M_k = E[x x^T] of the inputs of an output layer, E[g g^T] of the gradients at an embedding's
/// rows. Unlike its diagonal it knows of errors that add up: a third of the square of a model's
/// last states is one direction that all of them have.
struct RowFisher {
  torch::Tensor rows;     ///< [m, k], float32
  torch::Tensor moments;  ///< [k, n, n], float32

  /// What an error D [m, n] costs.
  double loss(const torch::Tensor& d) const;

  /// Of all rows together [n, n].
  torch::Tensor summed() const;

  DiagonalFisher diagonal() const { return {rows, moments.diagonal(0, 1, 2)}; }
};

}  // namespace schmidt::calibrate
