#pragma once

#include <torch/types.h>

namespace schmidt::calibrate {

/// The upper triangle of a symmetric matrix [n, n], row by row: [n (n + 1) / 2], on the CPU.
torch::Tensor packed(const torch::Tensor& symmetric);

/// The matrix again. Throws c10::ValueError unless the length is that of a triangle.
torch::Tensor unpacked(const torch::Tensor& triangle);

/// Copies the upper triangle of m [n, n] to the lower one; returns m.
torch::Tensor completed(torch::Tensor m);

}  // namespace schmidt::calibrate
