#pragma once

#include <torch/types.h>

#include "schmidt/model/config.h"

namespace schmidt::model {

/// The model's RMSNorm: x / rms(x) * (norm_offset + weight) over the last dimension.
/// x [.., d], weight [d] -> [.., d]. Differentiable. With an offset the product is in float32,
/// since the sum of both has more digits than bfloat16.
torch::Tensor normed(const ModelConfig& config, const torch::Tensor& x,
                     const torch::Tensor& weight);

}  // namespace schmidt::model
