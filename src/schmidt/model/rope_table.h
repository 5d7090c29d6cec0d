#pragma once

#include <cstdint>

#include <torch/types.h>

#include "schmidt/model/config.h"

namespace schmidt::model {

/// cos and sin of every rotary angle, times the attention factor of the scaling:
/// float32 [positions, head_dim / 2].
struct RopeTable {
  torch::Tensor cos;
  torch::Tensor sin;
};

/// Angles per position of each pair, after scaling, in a sequence of `length` tokens:
/// float32 [head_dim / 2]. The length counts in dynamic scaling alone, where the base
/// grows once it is beyond the original context.
/// Sources: Hugging Face transformers, modeling_rope_utils, which defines all of them;
/// linear: Chen et al. 2023, arXiv:2306.15595; yarn: Peng et al. 2023, arXiv:2309.00071;
/// llama3: as released with Llama 3.1.
torch::Tensor rope_frequencies(const RopeConfig& rope, int64_t head_dim, int64_t length = 0);

/// The table for positions 0 .. positions - 1 of a sequence of that many tokens. Its first
/// rows serve a shorter sequence too, except that with dynamic scaling one of more than the
/// original context has a table of its own.
RopeTable rope_table(const ModelConfig& config, int64_t positions, torch::Device device);

/// Rows first .. first + count - 1 of the table of a sequence of first + count tokens.
RopeTable rope_table_end(const RopeConfig& rope, int64_t head_dim, int64_t first, int64_t count,
                         torch::Device device);

}  // namespace schmidt::model
