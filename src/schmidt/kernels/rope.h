#pragma once

#include <cstdint>

#include <torch/types.h>

namespace schmidt::kernels {

/// Rotary position embedding, in float32 inside: with x = (a, b), the two halves of
/// each head, -> (a cos - b sin, b cos + a sin).
/// x [..., t, heads, d], cos and sin float32 [t, d / 2] -> like x. Differentiable with
/// respect to x, once on the CPU in float32 and bfloat16.
/// Throws c10::ValueError if shapes do not fit.
/// Source: Su et al. 2021, arXiv:2104.09864, pairs (i, i + d/2) as Hugging Face has.
torch::Tensor rope(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin);

/// One head x [d] of a token in place, cos and sin [d / 2], on this thread.
void rope_head(float* x, const float* cos, const float* sin, int64_t d);
void rope_head(c10::BFloat16* x, const float* cos, const float* sin, int64_t d);

/// rope by ATen operations only.
torch::Tensor rope_reference(const torch::Tensor& x, const torch::Tensor& cos,
                             const torch::Tensor& sin);

}  // namespace schmidt::kernels
