#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <torch/types.h>

#include "schmidt/calibrate/activation_stream.h"

namespace schmidt::calibrate {

/// Token ids [.., t] -> what the first block reads of them [.., t, hidden].
using Embed = std::function<torch::Tensor(const torch::Tensor& ids)>;

/// The residual stream before the first block: this worker's batches of windows, int64
/// [windows, t], as TextBatches::of cuts them.
ActivationStream embedded_text(const Embed& embed, const torch::Tensor& windows,
                               const ActivationSpace& space, const std::string& name,
                               int64_t hidden);

}  // namespace schmidt::calibrate
