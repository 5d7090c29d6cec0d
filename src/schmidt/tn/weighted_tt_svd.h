#pragma once

#include <vector>

#include <torch/types.h>

#include "schmidt/tn/factorize.h"
#include "schmidt/tn/moment_norm.h"

namespace schmidt::tn {

/// The matrix on each site of a Kronecker product that stands for `moments`:
/// partial traces over all other sites, each with a trace of its dimension. dims
/// multiply out to the size of `moments`; empty for undefined moments.
std::vector<torch::Tensor> site_moments(const torch::Tensor& moments,
                                        const std::vector<int64_t>& dims);

/// TT-SVD in the norm's coordinates as far as single sites can express them: with
/// the norm replaced by a Kronecker product over the sites, W is whitened site by
/// site, cut, and the whitening undone in each core. For sites (m, 1) x (1, n) that
/// is the weighted optimum, for others a start for als(). In W's dtype (float32 for
/// a half type); relative_error is the measured one in the norm itself.
/// Throws c10::ValueError and c10::LinAlgError as factorize does.
Factorization weighted_tt_svd(const torch::Tensor& w, const FactorizeOptions& options,
                              const MomentNorm& norm);

}  // namespace schmidt::tn
