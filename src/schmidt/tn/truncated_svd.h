#pragma once

#include <cstdint>

#include <torch/types.h>

namespace schmidt::tn {

/// Which singular values count, and how exactly they have to be known.
struct SvdTruncation {
  int64_t max_rank;      ///< at least 1
  double allowed;        ///< sum of squares that may be dropped, in the matrix's units
  bool double_accuracy;  ///< resolve singular values below 1e-7 of the largest
};

/// M [p, q] ~ left right, the best approximation of its rank.
struct TruncatedSvd {
  torch::Tensor left;   ///< [p, r], orthonormal columns
  torch::Tensor right;  ///< [r, q], holds the singular values
  double dropped;       ///< ||M - left right||_F^2
};

/// Smallest rank >= 1 that drops no more than `allowed`, cut off at `max_rank`.
/// A singular value below the rounding of the accuracy asked for is no rank of M
/// and never kept. M is float64.
///
/// In single accuracy the factors come from the eigenvectors of the smaller of
/// M M^T and M^T M, several times cheaper than an SVD: in float64 the squares of
/// singular values are good to 1e-16 of the largest square.
/// Throws c10::LinAlgError if a decomposition does not converge.
TruncatedSvd truncated_svd(const torch::Tensor& matrix, const SvdTruncation& truncation);

}  // namespace schmidt::tn
