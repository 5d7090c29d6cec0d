#pragma once

#include <optional>

#include <torch/types.h>

#include "schmidt/model/config.h"

namespace schmidt::model {

/// What a model makes of the embedding's rows [.., hidden] before the first block. The factor has
/// their type, as in transformers.
torch::Tensor embedded(const ModelConfig& config, const torch::Tensor& rows);

/// What it makes of the output layer's outputs [.., vocab]: logits. Differentiable.
torch::Tensor logits_of(const ModelConfig& config, const torch::Tensor& outputs);

/// The derivative of logits [.., vocab] by the output layer's outputs, one by one; none where the
/// logits are those outputs.
std::optional<torch::Tensor> logit_slopes(const ModelConfig& config, const torch::Tensor& logits);

}  // namespace schmidt::model
