#pragma once

#include <optional>

#include <torch/types.h>

namespace schmidt::kernels {

/// y = x W^T + bias. x [..., n], w [m, n], bias [m] -> [..., m], in x's dtype.
/// Differentiable. Where no gradient is asked for and x has few rows (decoding),
/// a memory-bound product of our own runs instead of the library's GEMM; which
/// one is chosen at run time by the CPU's instruction sets.
/// Throws c10::ValueError if shapes, dtypes or devices do not fit.
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& w,
                     const std::optional<torch::Tensor>& bias = std::nullopt);

}  // namespace schmidt::kernels
