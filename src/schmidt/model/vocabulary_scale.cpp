#include "schmidt/model/vocabulary_scale.h"

#include <ATen/ops/full_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tanh.h>

namespace schmidt::model {

torch::Tensor embedded(const ModelConfig& config, const torch::Tensor& rows) {
  if (config.embedding_scale == 1.0) return rows;
  return rows * at::scalar_tensor(config.embedding_scale, at::dtype(rows.scalar_type()));
}

torch::Tensor logits_of(const ModelConfig& config, const torch::Tensor& outputs) {
  torch::Tensor logits = config.logit_scale == 1.0 ? outputs : outputs * config.logit_scale;
  if (!config.logit_softcap) return logits;
  return at::tanh(logits / *config.logit_softcap) * *config.logit_softcap;
}

std::optional<torch::Tensor> logit_slopes(const ModelConfig& config, const torch::Tensor& logits) {
  if (!config.logit_softcap) {
    if (config.logit_scale == 1.0) return std::nullopt;
    return at::full_like(logits, config.logit_scale);
  }
  return config.logit_scale * (1.0 - (logits / *config.logit_softcap).square());
}

}  // namespace schmidt::model
