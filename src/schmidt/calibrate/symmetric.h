#pragma once

#include <torch/types.h>

namespace schmidt::calibrate {

/// The upper triangle of a symmetric matrix [n, n], row by row: [n (n + 1) / 2], on the CPU.
torch::Tensor packed(const torch::Tensor& symmetric);

/// The matrix again. Throws c10::ValueError unless the length is that of a triangle.
torch::Tensor unpacked(const torch::Tensor& triangle);

/// Copies the upper triangle of m [n, n] to the lower one; returns m.
torch::Tensor completed(torch::Tensor m);

/// A B [n, n], A [n, k] and B [k, n], of a product that is known to be symmetric: in little more
/// than half of the work.
torch::Tensor symmetric_product(const torch::Tensor& a, const torch::Tensor& b);

/// The lower triangle of R^T B R [n, n], R lower triangular and B symmetric: in less than half of
/// the work. What is above it is not to be read.
torch::Tensor lower_congruence(const torch::Tensor& r, const torch::Tensor& b);

}  // namespace schmidt::calibrate
