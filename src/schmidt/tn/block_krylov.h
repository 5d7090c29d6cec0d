#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

namespace schmidt::tn {

/// W in the metric G, W [m, n], G [n, n] or undefined for the identity, both of one
/// floating-point type.
struct WeightedMatrix {
  torch::Tensor w, g;
  double squared_norm;  ///< tr(W G W^T)
};

/// The leading r-dimensional space of W G W^T, nearly.
struct LeadingSpace {
  torch::Tensor basis;      ///< U [m, r], orthonormal columns, leading first
  torch::Tensor projected;  ///< U^T W [r, n]
  double dropped;           ///< tr(W G W^T) - tr(U^T W G W^T U)
};

struct KrylovOptions {
  int64_t rank;              ///< below min(m, n)
  double excess = 0.01;      ///< share by which `dropped` may exceed the least possible
  double largest_space = 3;  ///< in multiples of the rank; also at most min(m, n)
};

/// Block Lanczos with full reorthogonalization, in blocks of a quarter of the rank,
/// until the gains of its steps say that `dropped` is within `excess` of the optimum:
/// their sequence falls at least geometrically. That takes a space of 1.5 to 2 times
/// the rank, so that W G W^T meets each of its vectors only once: O(r (2 m n + n^2))
/// in all. None if the space would become too large, or `dropped` is too small to be
/// told from rounding. The random start is the same in every run.
/// Source: Musco and Musco 2015, Randomized block Krylov methods.
std::optional<LeadingSpace> leading_space(const WeightedMatrix& matrix,
                                          const KrylovOptions& options);

}  // namespace schmidt::tn
