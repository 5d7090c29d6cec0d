#pragma once

#include <torch/types.h>

namespace schmidt::tn {

/// Rows of A [rows, r] in which all others are expressed with small coefficients.
struct PivotRows {
  torch::Tensor pivots;  ///< int64 [r], ascending
  torch::Tensor others;  ///< [rows - r, r]: row i of A is others[i] A[pivots], for the
                         ///< rows that are no pivots, in their order
};

/// Of a float64 A [rows, r] of full rank r <= rows. No coefficient is larger than
/// 1.5, unless 20 r + 100 exchanges of a pivot did not suffice: each multiplies the volume
/// that the pivot rows span by 1.5 at least.
/// Source: LU with row pivoting, then "maxvol", Goreinov et al. 2010.
PivotRows pivot_rows(const torch::Tensor& a);

}  // namespace schmidt::tn
