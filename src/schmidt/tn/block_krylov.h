#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

namespace schmidt::tn {

/// W in the norm G, W [m, n], G [n, n] or undefined for the identity, both of one
/// floating-point type.
struct WeightedMatrix {
  torch::Tensor w, g;
};

/// The leading r-dimensional space of W G W^T, nearly.
struct LeadingSpace {
  torch::Tensor basis;      ///< U [m, r], orthonormal columns, leading first
  torch::Tensor projected;  ///< U^T W [r, n]
  double kept;              ///< tr(U^T W G W^T U)
  double dropped;           ///< tr(W G W^T) - kept, estimated
  double deviation;         ///< standard error of `dropped`
};

struct KrylovOptions {
  int64_t rank;              ///< below min(m, n)
  double excess = 0.01;      ///< share by which `dropped` may exceed the least possible
  double largest_space = 3;  ///< in multiples of the rank; also at most min(m, n)
};

/// Whether `leading_space` is the faster way to a rank out of `side`, or a whole decomposition.
bool krylov_is_faster(int64_t rank, int64_t side);

/// Block Lanczos with full reorthogonalization, in blocks of a quarter of the rank,
/// until the gains of its steps say that `dropped` is within `excess` of the optimum:
/// their sequence falls at least geometrically. That takes a space of 1.5 to 2 times
/// the rank, so that W G W^T meets each of its vectors only once: O(r (2 m n + n^2))
/// in all. What lies outside of that space is not computed, O(m n^2), but estimated
/// from its products with 64 vectors of random signs, whose spread gives `deviation`. None if the
/// space would become too large, or `dropped` is too small to be told from rounding.
/// Random numbers are the same in every run.
/// Sources: Musco and Musco 2015, Randomized block Krylov methods; Meyer, Musco, Musco and
/// Woodruff 2021, Hutch++: optimal stochastic trace estimation.
std::optional<LeadingSpace> leading_space(const WeightedMatrix& matrix,
                                          const KrylovOptions& options);

}  // namespace schmidt::tn
