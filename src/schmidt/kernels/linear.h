#pragma once

#include <optional>

#include <torch/types.h>

namespace schmidt::kernels {

/// y = x W^T + bias. x [..., n], w [m, n], bias [m] -> [..., m], in x's dtype.
/// Differentiable. Where no gradient is asked for, products of our own run instead of the library's
/// GEMM if they are faster: of few rows (decoding), bound by memory, and in bfloat16 of up to some
/// hundred. Which one is chosen at run time by the CPU's instruction sets.
/// Throws c10::ValueError if shapes, dtypes or devices do not fit.
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& w,
                     const std::optional<torch::Tensor>& bias = std::nullopt);

}  // namespace schmidt::kernels
