#pragma once

#include <torch/types.h>

namespace schmidt::kernels {

/// silu(gate) * up, silu(z) = z / (1 + exp(-z)), for gate and up side by side.
/// gate_up [..., 2 m] -> [..., m]. Differentiable.
/// Throws c10::ValueError if the last dimension is odd.
/// Source: Shazeer 2020, arXiv:2002.05202.
torch::Tensor swiglu(const torch::Tensor& gate_up);

}  // namespace schmidt::kernels
