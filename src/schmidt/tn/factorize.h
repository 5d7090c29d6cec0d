#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "schmidt/tn/mpo.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::tn {

struct FactorizeOptions {
  SiteShape shape;
  std::optional<std::vector<int64_t>> max_bonds;  ///< one for each cut, >= 1; none: no limit
  double tolerance = 0.0;  ///< relative Frobenius error allowed in all, in [0, 1)
};

struct Factorization {
  Mpo mpo;
  double relative_error;  ///< ||W - W'||_F / ||W||_F; says nothing of perplexity
};

/// Factorizes W into an MPO by TT-SVD: one left-to-right sweep of K-1 SVDs.
/// Each SVD may drop at most tolerance * ||W||_F / sqrt(K-1); without `max_bonds`
/// the result meets `tolerance`. Dropped parts are orthogonal, so relative_error
/// is summed from them and W' is never built. Each SVD costs O((mn)^1.5) at most.
///
/// The work is done in float64. For W in float32 or a half type, and no tolerance
/// below 1e-6, each SVD is replaced by the eigenvectors of a Gram matrix, whose
/// error is below float32's rounding. A bond never holds singular values that are
/// mere rounding of W, so a matrix of exact low rank gets that rank as its bond,
/// and a zero matrix bonds of 1 and an error of 0.
/// The result is in left-canonical form, in W's dtype (float32 for a half type,
/// whose rounding would cost more than a bond).
/// Throws c10::ValueError if W is not a matrix or an option does not fit it, or
/// holds NaN or infinity; c10::LinAlgError if an SVD does not converge.
/// Source: Oseledets 2011, SIAM J. Sci. Comput. 33(5), Alg. 1, Thm. 2.2.
Factorization factorize(const torch::Tensor& w, const FactorizeOptions& options);

}  // namespace schmidt::tn
