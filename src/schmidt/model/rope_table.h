#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/model/config.h"

namespace schmidt::model {

/// cos and sin of every rotary angle, times the attention factor of the scaling:
/// float32 [positions, r / 2], r the values of a head that turn.
struct RopeTable {
  torch::Tensor cos;
  torch::Tensor sin;
  /// Those of layers with a window, where they have a base of their own; else undefined.
  torch::Tensor local_cos = {};
  torch::Tensor local_sin = {};

  int64_t positions() const { return cos.size(0); }
  /// Rows first .. first + count - 1.
  RopeTable narrow(int64_t first, int64_t count) const;
};

/// The rows of one table after another's.
RopeTable concatenate(const std::vector<RopeTable>& tables);

/// How many values of a head turn, an even number.
int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim);

/// Angles per position of each pair, after scaling, in a sequence of `length` tokens:
/// float32 [r / 2]. The length counts beyond the original context of two scalings alone: with
/// dynamic the base grows, with longrope the long factors hold.
/// Sources: Hugging Face transformers, modeling_rope_utils, which defines all of them;
/// linear: Chen et al. 2023, arXiv:2306.15595; yarn: Peng et al. 2023, arXiv:2309.00071;
/// llama3: as released with Llama 3.1; longrope: Ding et al. 2024, arXiv:2402.13753.
torch::Tensor rope_frequencies(const RopeConfig& rope, int64_t head_dim, int64_t length = 0);

/// The table for positions 0 .. positions - 1 of a sequence of that many tokens. Its first
/// rows serve a shorter sequence too, except that with dynamic scaling one of more than the
/// original context has a table of its own, and with longrope those up to it and those beyond.
RopeTable rope_table(const ModelConfig& config, int64_t positions, torch::Device device);

/// Rows first .. first + count - 1 of the table of a sequence of first + count tokens.
RopeTable rope_table_end(const RopeConfig& rope, int64_t head_dim, int64_t first, int64_t count,
                         torch::Device device);

}  // namespace schmidt::model
