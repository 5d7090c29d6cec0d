#pragma once

#include <cstdint>

#include <torch/types.h>

namespace schmidt::kernels {

/// silu(gate) * up, silu(z) = z / (1 + exp(-z)), for gate and up side by side.
/// gate_up [..., 2 m] -> [..., m], in float32 inside. Differentiable, once on the CPU in
/// float32 and bfloat16.
/// Throws c10::ValueError if the last dimension is odd.
/// Source: Shazeer 2020, arXiv:2002.05202.
torch::Tensor swiglu(const torch::Tensor& gate_up);

/// Rows [rows, 2 m] into [rows, m], on this thread.
void swiglu_rows(const float* gate_up, float* y, int64_t rows, int64_t m);
void swiglu_rows(const c10::BFloat16* gate_up, c10::BFloat16* y, int64_t rows, int64_t m);

/// swiglu by ATen operations only.
torch::Tensor swiglu_reference(const torch::Tensor& gate_up);

/// gelu(gate) * up, gelu by tanh: z / 2 (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))), by ATen
/// operations only. gate_up [..., 2 m] -> [..., m]. Differentiable. Throws as swiglu.
torch::Tensor geglu(const torch::Tensor& gate_up);

}  // namespace schmidt::kernels
