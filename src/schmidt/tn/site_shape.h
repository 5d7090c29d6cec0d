#pragma once

#include <cstdint>
#include <vector>

namespace schmidt::tn {

/// How the row and column index of a matrix are split into K sites.
struct SiteShape {
  std::vector<int64_t> out_dims;  ///< m_1 .. m_K, product m
  std::vector<int64_t> in_dims;   ///< n_1 .. n_K, product n
  bool operator==(const SiteShape&) const = default;

  int64_t sites() const { return static_cast<int64_t>(out_dims.size()); }
};

/// Throws c10::ValueError unless the shape has at least one site, as many input as
/// output dimensions, each at least 1, and m * n fits into 64 bits.
void check_shape(const SiteShape& shape);

/// K sites whose sizes m_k * n_k are as equal as the divisors of m and n allow:
/// the split with the least sum of m_k * n_k, then with the least sum of m_k + n_k.
/// Output dimensions fall and input dimensions rise from site to site: of all
/// orders of the same dimensions that one has the most equal sites, and a sweep
/// from the last site needs the fewest operations.
/// Example: 1536 x 576 on two sites is (48, 32) x (18, 32).
/// Throws c10::ValueError if sites < 1, or m and n have too few prime factors to
/// give every site more than one index value.
SiteShape balanced_shape(int64_t m, int64_t n, int64_t sites);

/// The plain low-rank factorization W = A B as a two-site MPO: (m, 1) x (1, n).
SiteShape low_rank_shape(int64_t m, int64_t n);

/// The largest bond each of the K-1 cuts can have: min of the two sides' sizes.
std::vector<int64_t> full_bonds(const SiteShape& shape);

/// Scalars in all cores at these bonds: sum r_{k-1} m_k n_k r_k.
/// Throws c10::ValueError if there are not K-1 bonds, each at least 1, or the sum
/// does not fit into 64 bits.
int64_t parameter_count(const SiteShape& shape, const std::vector<int64_t>& bonds);

/// Bonds min(chi, full bond) with the largest chi whose parameters fit `budget`;
/// chi is at least 1 even where that does not fit.
std::vector<int64_t> bonds_for_budget(const SiteShape& shape, int64_t budget);

}  // namespace schmidt::tn
