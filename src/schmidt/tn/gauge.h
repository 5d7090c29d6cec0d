#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/mpo.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::tn {

/// An MPO without the freedom of its bonds. An invertible r x r matrix and its
/// inverse between two cores change no entry of W; it is chosen so that r rows of
/// the left core, the pivots, form the identity, which needs no storage:
///
///               rows of core k, [r_{k-1} m_k n_k, r_k]
///        pivots  1 . . .
///                . 1 . .      not stored
///        others  x x x x
///                x x x x      stored, |x| at most about 1.5 as fix_gauge makes them
///
/// Row (a, o, i) of the unfolding is number (a m_k + o) n_k + i.
struct GaugeFixed {
  SiteShape shape;
  /// k < K - 1: [r_{k-1} m_k n_k - r_k, r_k], the other rows in their order; the
  /// last: [r_{K-1}, m_K, n_K, 1].
  std::vector<torch::Tensor> cores;
  std::vector<torch::Tensor> pivots;  ///< K - 1 of int64 [r_k], each ascending, on the CPU
};

/// Whether its sites are (m, 1) x (1, n).
bool is_low_rank(const GaugeFixed& fixed);

/// The same matrix, computed in float64, in the cores' dtype. Equal to rounding,
/// also where bonds are not of full rank; a bond beyond what its sides can carry
/// becomes smaller.
/// Throws c10::ValueError if a core holds NaN or infinity; c10::LinAlgError if a
/// decomposition fails.
/// Source: the pivoting rows of PIFA, applied to every bond.
GaugeFixed fix_gauge(const Mpo& mpo);

/// The same matrix with the identity rows in their places: exact. Differentiable.
/// Throws c10::ValueError as check_gauge_fixed does.
Mpo free_gauge(const GaugeFixed& fixed);

/// Throws c10::ValueError if sizes disagree, or pivots are not ascending rows.
void check_gauge_fixed(const GaugeFixed& fixed);

/// x [..., n] -> x W^T [..., m]. Differentiable. For sites (m, 1) x (1, n) the
/// pivots' outputs are computed from x and all others from those: r (m + n - r)
/// multiplications for each row of x. Other shapes are contracted as Mpo::apply does.
/// Throws c10::ValueError if x does not fit.
torch::Tensor apply(const GaugeFixed& fixed, const torch::Tensor& x,
                    const ContractionOptions& options = {});

std::vector<int64_t> bonds(const GaugeFixed& fixed);  ///< r_1 .. r_{K-1}
int64_t numel(const GaugeFixed& fixed);               ///< scalars stored, pivots not counted

/// Scalars stored at these bonds: sum r_{k-1} m_k n_k r_k - sum r_k^2.
/// Throws c10::ValueError as parameter_count does.
int64_t gauge_fixed_parameter_count(const SiteShape& shape, const std::vector<int64_t>& bonds);

/// Bonds min(chi, full bond) with the largest chi whose gauge_fixed_parameter_count
/// fits `budget`; chi is at least 1 even where that does not fit. For sites (m, 1) x
/// (1, n) it is ((m + n) - sqrt((m + n)^2 - 4 budget)) / 2.
std::vector<int64_t> gauge_fixed_bonds_for_budget(const SiteShape& shape, int64_t budget);

}  // namespace schmidt::tn
