#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

#include "schmidt/model/packing.h"
#include "schmidt/model/step_plan.h"

namespace schmidt::model {

/// Causal grouped-query attention, softmax(q k^T / sqrt(head_dim)) v: query head h
/// reads key head h / (heads / kv_heads). A token sees itself and the tokens before
/// it, with a window only the latest `window` of them, its own included.

/// Within each span of the packing. q [b, t, heads, d], k and v [b, t, kv_heads, d]
/// -> [b, t, heads, d]. Differentiable; costs the sum of the spans' squared lengths.
/// Throws c10::ValueError if the packing is of a larger batch.
torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, std::optional<int64_t> window,
                               const Packing& packing = {});

/// Over a cache layer, to which the step's keys and values are added first.
/// q [n, heads, d], k and v [n, kv_heads, d] of the plan's packed tokens; keys and
/// values [batch, kv_heads, capacity, d] -> [n, heads, d]. Not differentiable.
torch::Tensor step_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                             const StepPlan& plan, std::optional<int64_t> window,
                             const torch::Tensor& keys, const torch::Tensor& values);

}  // namespace schmidt::model
