#pragma once

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

}  // namespace schmidt::test
