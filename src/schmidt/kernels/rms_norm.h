#pragma once

#include <cstdint>

#include <torch/types.h>

namespace schmidt::kernels {

/// y = x / sqrt(mean(x^2) + eps) * weight over the last dimension, the mean and
/// the quotient in float32, rounded to x's dtype before the product with weight.
/// x [..., d], weight [d] -> [..., d]. Differentiable, once on the CPU in float32 and
/// bfloat16.
/// Throws c10::ValueError if shapes do not fit.
/// Source: Zhang and Sennrich 2019, arXiv:1910.07467.
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps);

/// Rows x [rows, d] into y [rows, d], on this thread.
void rms_norm_rows(const float* x, const float* weight, float* y, int64_t rows, int64_t d,
                   float eps);
void rms_norm_rows(const c10::BFloat16* x, const c10::BFloat16* weight, c10::BFloat16* y,
                   int64_t rows, int64_t d, float eps);

/// rms_norm by ATen operations only: what it runs where its own kernel does not
/// apply.
torch::Tensor rms_norm_reference(const torch::Tensor& x, const torch::Tensor& weight, double eps);

}  // namespace schmidt::kernels
