#pragma once

#include <optional>

#include <torch/types.h>

namespace schmidt::kernels {

/// y = x W^T + bias. x [..., n], w [m, n], bias [m] -> [..., m], in x's dtype.
/// Differentiable. Where no gradient is asked for, products of our own run instead of the library's
/// GEMM where they are faster (row_kernel); which, is chosen at run time by the CPU's instruction
/// sets.
/// Throws c10::ValueError if shapes, dtypes or devices do not fit.
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& w,
                     const std::optional<torch::Tensor>& bias = std::nullopt);

/// x [rows, n] W^T into y [rows, m], whose rows may be parts of wider ones. Records no gradient.
/// Throws c10::ValueError for sizes or dtypes that do not fit.
void linear_into(const torch::Tensor& x, const torch::Tensor& w, torch::Tensor y);

}  // namespace schmidt::kernels
