#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <torch/torch.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/model.h"

namespace schmidt::test {

/// Logarithms of the probabilities that a model gives [windows, t, vocabulary] on ids [windows, t].
inline torch::Tensor log_p(const io::Checkpoint& checkpoint, const torch::Tensor& ids) {
  return torch::log_softmax(model::Model::load(checkpoint).forward(ids), -1);
}

/// KL(original || changed), nats a token.
inline double divergence(const io::Checkpoint& original, const io::Checkpoint& changed,
                         const torch::Tensor& ids) {
  const torch::Tensor p = log_p(original, ids), q = log_p(changed, ids);
  return (p.exp() * (p - q)).sum(-1).mean().item<double>();
}

/// What a whole forward pass on ids [windows, t] reads at one group of a block, [windows t, n] in
/// float64.
inline torch::Tensor inputs_of(const io::Checkpoint& checkpoint, const torch::Tensor& ids,
                               int64_t block, model::Group group) {
  const auto model = model::Model::load(checkpoint);
  const model::RopeTable rope = model.rope(ids.size(1));
  torch::Tensor h = model.embed(ids);
  for (int64_t b = 0; b < block; ++b) h = model.block(b).forward(h, rope);
  model::BlockPass at = model.block(block).begin(h, rope);
  at.apply_until(group);
  return at.input().flatten(0, -2).to(torch::kFloat64);
}

/// Neurons of each block's MLP in a checkpoint's folder.
inline std::vector<int64_t> mlp_sizes(const std::filesystem::path& folder) {
  const io::Checkpoint found = io::Checkpoint::open(folder);
  return model::parse_config(found.config(), found.path()).mlp_sizes;
}

}  // namespace schmidt::test
