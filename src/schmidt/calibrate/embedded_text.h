#pragma once

#include <string>

#include <torch/types.h>

#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/calibrate/streamed_model.h"

namespace schmidt::calibrate {

/// The residual stream before the first block: this worker's batches of windows, int64
/// [windows, t], as TextBatches::of cuts them. The embedding is in memory during the call.
ActivationStream embedded_text(const StreamedModel& model, const torch::Tensor& windows,
                               const ActivationSpace& space, const std::string& name);

}  // namespace schmidt::calibrate
