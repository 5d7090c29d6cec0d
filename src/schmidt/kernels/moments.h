#pragma once

#include <torch/types.h>

namespace schmidt::kernels {

/// sum [m, n] += X^T Y, X [tokens, m] and Y [tokens, n] in float32 or bfloat16, both in the same,
/// sums float32 and contiguous. In bfloat16 products are exact before they are added: where the
/// processor multiplies pairs of them this is twice as fast as in float32. Throws c10::ValueError
/// for sizes or dtypes that do not fit.
void add_cross_moments(const torch::Tensor& sum, const torch::Tensor& x, const torch::Tensor& y);

/// The same of X and X, the upper triangle alone, which is little more than half of the work. What
/// is below is not to be read.
void add_moments(const torch::Tensor& sum, const torch::Tensor& x);

/// The sum of squares of each row of x [tokens, n], float32 [tokens]. x and what it throws as
/// above.
torch::Tensor row_squares(const torch::Tensor& x);

/// sum [n] += weights_t x_t^2 over the rows of x [tokens, n], weights float32 [tokens].
void add_weighted_squares(const torch::Tensor& sum, const torch::Tensor& weights,
                          const torch::Tensor& x);

}  // namespace schmidt::kernels
