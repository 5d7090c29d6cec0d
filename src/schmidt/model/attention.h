#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

#include "schmidt/kernels/attention_scores.h"
#include "schmidt/model/packing.h"
#include "schmidt/model/step_plan.h"

namespace schmidt::model {

/// Causal grouped-query attention, softmax(scores(q k^T)) v: query head h
/// reads key head h / (heads / kv_heads). A token sees itself and the tokens before
/// it, with a window only the latest `window` of them, its own included.

/// Within each span of the packing. q [b, t, heads, d], k and v [b, t, kv_heads, d]
/// -> [b, t, heads, d]. Differentiable; costs the sum of the spans' squared lengths.
/// Throws c10::ValueError if the packing is of a larger batch.
torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, std::optional<int64_t> window,
                               const Packing& packing = {}, const kernels::Scores& scores = {});

/// Over one layer of a cache, to which the step's keys and values are added first: a token reads
/// all of them as the cache keeps them. Each span in the way that suits its length, so that a row
/// with many tokens does not slow the others.
/// q [n, heads, d], k and v [n, kv_heads, d] of the plan's packed tokens -> [n, heads, d]. The
/// cache has made room for them. Not differentiable.
torch::Tensor step_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                             const StepPlan& plan, std::optional<int64_t> window,
                             const KvCache& cache, int64_t layer,
                             const kernels::Scores& scores = {});

}  // namespace schmidt::model
