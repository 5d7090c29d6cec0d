#pragma once

#include <cstdint>

#include <torch/types.h>

#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

/// W' = left right. Columns of left and rows of right come in order of their worth:
/// the first k of them are the optimum of rank k.
struct LowRank {
  torch::Tensor left;     ///< [m, r]
  torch::Tensor right;    ///< [r, n]
  double relative_error;  ///< weighted, see below; says nothing of perplexity
};

struct LowRankOptions {
  int64_t rank;        ///< at least 1
  bool exact = false;  ///< never trade 0.5 % of the error for time
};

/// The W' of at most that rank with the least ||W - W'|| in the norm.
///
/// With Z the leading eigenvectors of W G W^T H, Z^T H Z = 1, it is W' = Z Z^T H W,
/// which needs no inverse of G: for H = 1 the projection on the leading eigenvectors
/// of W G W^T. These come from an eigen-decomposition of the smaller side's matrix,
/// in float64; for rank below a third of large matrices from a Krylov space
/// within 0.5 % of the least error, which falls back to the former where it does not
/// converge; relative_error is then an estimate with a standard error of 0.25 % at most.
/// In directions to which H gives no weight W' is 0.
/// Fewer than `rank` columns come back where already they leave nothing over. The
/// result is in W's dtype (float32 for a half type).
/// Throws c10::ValueError if an argument does not fit or is not finite;
/// c10::LinAlgError if a decomposition does not converge.
/// Source: Eckart and Young 1936 in the norm's coordinates.
LowRank weighted_low_rank(const torch::Tensor& w, const MomentNorm& norm,
                          const LowRankOptions& options);

/// Singular values of H^{1/2} W G^{1/2} [min(m, n)], float64, the largest first. The
/// squared error of the best W' of rank r is the sum of squares from the r-th on.
torch::Tensor weighted_singular_values(const torch::Tensor& w, const MomentNorm& norm);

/// Relative weighted error of every rank 0 .. min(m, n) from these singular values:
/// [min(m, n) + 1], float64, falling to 0.
torch::Tensor error_of_each_rank(const torch::Tensor& singular_values);

/// The same matrix with sites (m, 1) x (1, n).
Mpo to_mpo(const LowRank& factors);

}  // namespace schmidt::tn
