#pragma once

#include <filesystem>
#include <vector>

#include <torch/types.h>

#include "schmidt/base/progress.h"
#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/calibrate/statistics.h"
#include "schmidt/calibrate/streamed_model.h"
#include "schmidt/calibrate/workers.h"
#include "schmidt/compress/layer_store.h"

namespace schmidt::compress {

/// What calibrated methods work from.
struct Calibration {
  torch::Tensor windows;                              ///< int64 [windows, t]: the text, cut
  const calibrate::Statistics* statistics = nullptr;  ///< for methods that need the gradient
  torch::ScalarType dtype = torch::kFloat32;          ///< the model computes in
  torch::Device device = torch::kCPU;
  int64_t batch = 8;                         ///< windows in one step
  calibrate::Workers workers;                ///< share the windows, and layers of one input
  calibrate::ActivationOptions activations;  ///< where they lie, and what a kill may cost
};

/// Factorizes layers in the order of the model: every layer sees the inputs that the
/// compressed layers before it make of the calibration text, beside those of the
/// original. One block of each is in memory, and the text's activations at one
/// place of the block as far as they fit. `folder` takes what does not fit and, from time to
/// time, the residual streams between blocks, so that a killed run goes on at the layer it was
/// in, to the same result, after another pass through the blocks since then.
/// A planned embedding lies in `store` already: the first block reads what it holds.
/// `stored_dtype` is that of a layer's weight in the new checkpoint.
void compress_in_order(const io::Checkpoint& checkpoint, const calibrate::StreamedModel& model,
                       const std::vector<plan::LayerPlan>& plan, const Calibration& calibration,
                       const MethodOptions& options,
                       const std::function<torch::ScalarType(const plan::Layer&)>& stored_dtype,
                       const LayerStore& store, const std::filesystem::path& folder,
                       const ProgressFn& progress);

/// `weight` with the biases of a stacked layer's members as one.
model::StoredWeight with_bias(const io::Checkpoint& checkpoint, const plan::Layer& layer,
                              model::StoredWeight weight);

}  // namespace schmidt::compress
