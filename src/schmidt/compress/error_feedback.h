#pragma once

#include <torch/types.h>

#include "schmidt/compress/integer_grid.h"

namespace schmidt::compress {

/// What is added to moments, relative to their mean: of 0.01, 0.1, 1 and 10 the best for SmolLM2's
/// output layer at 2 bits, and as good as any at 4.
inline constexpr double kFeedbackDamping = 0.1;

/// How numbers still to be rounded make up for those that are, in the norm of G [n, n]: F with
///
///   F^T D F = G^{-1},   ones on F's diagonal and zeros below
///
/// so that an error e of number j is best met by w_k -= e f_jk for k > j. float32 [n, n].
/// G symmetric, finite; `damping` times the mean of its diagonal is added to it.
torch::Tensor feedback_of(const torch::Tensor& moments, double damping);

/// Codes of that grid for W [m, n], float32: columns are rounded one after the other, and those to
/// come make up for what the rounded ones have lost, by F of the inputs' moments.
/// Source: Frantar et al. 2022, arXiv:2210.17323 (GPTQ).
torch::Tensor gptq_codes(const torch::Tensor& w, const IntegerGrid& grid,
                         const torch::Tensor& feedback);

/// The same row by row, those to come making up for what the rounded rows have lost, by F [m, m] of
/// the moments H of the gradient at the outputs: errors D cost tr(H D G D^T). Works on the CPU.
/// Source: Tseng et al. 2025, arXiv:2505.22988 (YAQA).
torch::Tensor yaqa_codes(const torch::Tensor& w, const IntegerGrid& grid,
                         const torch::Tensor& of_inputs, const torch::Tensor& of_outputs);

}  // namespace schmidt::compress
