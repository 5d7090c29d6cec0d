#pragma once

#include <cstdint>

#include <torch/types.h>

#include "schmidt/model/config.h"

namespace schmidt::model {

/// cos and sin of every rotary angle, float32 [positions, head_dim / 2].
struct RopeTable {
  torch::Tensor cos;
  torch::Tensor sin;
};

/// Angles per position of each pair, after scaling: float32 [head_dim / 2].
/// Source of llama3: Hugging Face transformers, modeling_rope_utils, as released
/// with Llama 3.1; of linear: Chen et al. 2023, arXiv:2306.15595.
torch::Tensor rope_frequencies(const RopeConfig& rope, int64_t head_dim);

/// The table for positions 0 .. positions - 1.
RopeTable rope_table(const ModelConfig& config, int64_t positions, torch::Device device);

}  // namespace schmidt::model
