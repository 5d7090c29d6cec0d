#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/compress/integer_grid.h"
#include "schmidt/compress/rounded_weight.h"
#include "schmidt/model/block.h"
#include "schmidt/plan/plan.h"

namespace schmidt::compress {

struct LearningOptions {
  int64_t steps = 100;  ///< of a block
  int64_t rows = 2;     ///< windows of the text that a step is taken on
  uint64_t seed = 0;    ///< of their order
  /// Of the layers' products; sums between them, and all that is learned, are float32.
  torch::ScalarType products = torch::kFloat32;
};

/// A matrix whose rounding is learned.
struct RoundedMatrix {
  quant::IntegerFormat format;
  torch::Tensor weight;  ///< W [m, n], float32
  torch::ScalarType scale_type = torch::kFloat16;
  torch::Tensor column_weights;  ///< [n] of the errors where ranges are searched; undefined: 1
};

/// A layer of such: a matrix, a low rank in two, or the sum of both.
struct RoundedLayer {
  std::optional<RoundedMatrix> whole, left, right;
  std::optional<torch::Tensor> bias;  ///< [m], in the computation's type
  int64_t out_features = 0;
};

/// One layer of a block: as it stays, or to be rounded.
struct BlockLayer {
  model::Group group;
  model::ProjectionPtr fixed;           ///< null where it is rounded
  std::optional<RoundedLayer> rounded;  ///< none where it stays
};

/// What a block reads and is to write, and what its rounding is learned from.
struct BlockText {
  const calibrate::ActivationStream& inputs;   ///< what the rounded blocks before it make
  const calibrate::ActivationStream& targets;  ///< the original block's output
  const std::vector<int64_t>& batches;
  const model::RopeTable& rope;
  torch::Tensor output_weight;  ///< M [hidden, hidden]; undefined: identity
};

struct LearnedBlock {
  std::vector<RoundedParts> layers;  ///< that were rounded, in the order given
  double error_before = 0.0;         ///< rounded to the nearest
  double error_after = 0.0;
};

/// Learns whether numbers are rounded up or down, and where the range of each group ends, from
/// the output of the whole block:
///
///   min  mean over tokens of  e M e^T / |h|^2,  e = f(x) - h,  the first of each window left out
///
/// W' = s (clamp(round(W / s + v) + z) - z), v in [-1/2, 1/2], s and z of a range that is drawn in.
/// Rounding passes gradients on as they are, and all that is learned takes steps of the
/// gradient's sign alone, which become smaller. The better of the first and the last state is
/// returned. `layers` are all of the block's, in the model's order.
/// Source: Cheng et al. 2023, arXiv:2309.05516 (SignRound), whose loss has neither M nor |h|.
LearnedBlock learn_rounding(const model::Block& block, const std::vector<BlockLayer>& layers,
                            const BlockText& text, const LearningOptions& options);

}  // namespace schmidt::compress
