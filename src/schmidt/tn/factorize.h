#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

/// How the row and column index of a matrix are split into K sites.
struct SiteShape {
  std::vector<int64_t> out_dims;  ///< m_1 .. m_K, product m
  std::vector<int64_t> in_dims;   ///< n_1 .. n_K, product n
  bool operator==(const SiteShape&) const = default;
};

/// K sites whose m_k * n_k are as equal as the divisors of m and n allow.
/// Throws c10::ValueError if sites < 1, or m and n have too few prime factors to
/// give every site more than one index value.
SiteShape balanced_shape(int64_t m, int64_t n, int64_t sites);

/// The plain low-rank factorization W = A B as a two-site MPO: (m, 1) x (1, n).
SiteShape low_rank_shape(int64_t m, int64_t n);

/// The largest bond each of the K-1 cuts can have: min of the two sides' sizes.
std::vector<int64_t> full_bonds(const SiteShape& shape);

/// Scalars in all cores at these bonds: sum r_{k-1} m_k n_k r_k.
int64_t parameter_count(const SiteShape& shape, const std::vector<int64_t>& bonds);

/// Bonds min(chi, full bond) with the largest chi whose parameters fit `budget`;
/// chi is at least 1 even where that does not fit.
std::vector<int64_t> bonds_for_budget(const SiteShape& shape, int64_t budget);

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
/// The result is in left-canonical form, in W's dtype (float32 for a half type,
/// which has no SVD). A zero matrix gives bonds of 1 and an error of 0.
/// Throws c10::ValueError if W is not a matrix or an option does not fit it, or
/// holds NaN or infinity; c10::LinAlgError if an SVD does not converge.
/// Source: Oseledets 2011, SIAM J. Sci. Comput. 33(5), Alg. 1, Thm. 2.2.
Factorization factorize(const torch::Tensor& w, const FactorizeOptions& options);

}  // namespace schmidt::tn
