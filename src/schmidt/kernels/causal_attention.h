#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/attention_scores.h"
#include "schmidt/kernels/token_span.h"

namespace schmidt::kernels {

/// Causal grouped-query attention within spans of tokens, softmax(scores(q k^T)) v:
/// query head h reads key head h / (heads / kv_heads); a token sees itself and the
/// tokens of its span before it, with a window only the latest `window` of them, its own
/// included. q [n, heads, d], k and v [n, kv_heads, d] -> [n, heads, d], zeros for a
/// token of no span. Differentiable once. Costs the sum of the spans' squared lengths.
/// On CPUs with AVX-512 BF16, heads of 16 i run in a kernel of our own, except with a softcap;
/// float32 does where no gradient is asked for and mkl_leaves_vectors_unused().
/// spans: ascending. Throws c10::ValueError if shapes or spans do not fit.
torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, const std::vector<TokenSpan>& spans,
                               std::optional<int64_t> window, const Scores& scores = {});

/// The same by ATen operations only, on any device.
torch::Tensor causal_attention_reference(const torch::Tensor& q, const torch::Tensor& k,
                                         const torch::Tensor& v,
                                         const std::vector<TokenSpan>& spans,
                                         std::optional<int64_t> window, const Scores& scores = {});

/// Attention of the last t of past + t tokens by ATen operations: q [b, heads, t, d], k and v
/// [b, kv_heads, past + t, d] -> [b, heads, t, d]. Differentiable. With a softcap the scores
/// [b, heads, t, past + t] are in memory, in float32.
torch::Tensor attention_by_heads(const torch::Tensor& q, const torch::Tensor& k,
                                 const torch::Tensor& v, std::optional<int64_t> window,
                                 const Scores& scores = {});

/// What `length` queries after `past` earlier tokens may see, bool [length, past +
/// length]; none where the causal rule alone, or nothing, has to be said.
std::optional<torch::Tensor> causal_mask(int64_t length, int64_t past,
                                         std::optional<int64_t> window, torch::Device device);

}  // namespace schmidt::kernels
