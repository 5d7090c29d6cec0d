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
  torch::Tensor basis;      ///< U [m, r], orthonormal columns
  torch::Tensor projected;  ///< U^T W [r, n]
  double dropped;           ///< tr(W G W^T) - tr(U^T W G W^T U)
};

struct SubspaceOptions {
  int64_t rank;           ///< below min(m, n)
  double excess = 0.004;  ///< share by which `dropped` may exceed the least possible
  int64_t steps = 10;     ///< at most
};

/// Block subspace iteration with a tenth more vectors than are asked for, until the
/// gains of its steps say that `dropped` is within `excess` of the optimum: their
/// sequence falls geometrically. None if that is not reached in so many steps, or if
/// `dropped` is too small to be told from rounding. O(r (2 m n + n^2)) a step.
/// The random start is the same in every run.
/// Source: Halko, Martinsson, Tropp 2011, SIAM Rev. 53(2), Alg. 4.4.
std::optional<LeadingSpace> leading_space(const WeightedMatrix& matrix,
                                          const SubspaceOptions& options);

}  // namespace schmidt::tn
