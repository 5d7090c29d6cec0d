#pragma once

#include <torch/types.h>

namespace schmidt::tn {

/// A root F of a positive semi-definite A [n, n] of rank k, and its pseudo-inverse.
/// Eigenvalues below 1e-13 of the largest, and negative ones, are taken for
/// rounding of zero. A zero matrix has one column of zeros.
struct PositiveRoot {
  torch::Tensor root;     ///< F [n, k], F F^T = A
  torch::Tensor inverse;  ///< [n, k], F^T inverse = 1
};

/// A is float64 and symmetric to rounding.
/// Throws c10::LinAlgError if the eigen-decomposition does not converge.
PositiveRoot positive_root(const torch::Tensor& a);

/// Solves (A + ridge * mean of A's diagonal) X = B for positive semi-definite A, by
/// Cholesky, or by clipped eigenvalues where rounding made A indefinite. A zero
/// matrix stands for the identity.
class RidgeSolver {
 public:
  RidgeSolver(torch::Tensor a, double ridge);

  /// B [n, columns] -> X [n, columns].
  torch::Tensor solve(const torch::Tensor& b) const;

 private:
  torch::Tensor cholesky_;  // [n, n], lower; undefined where eigenvalues stand in
  torch::Tensor vectors_;   // [n, n]
  torch::Tensor inverses_;  // [n, 1]
};

}  // namespace schmidt::tn
