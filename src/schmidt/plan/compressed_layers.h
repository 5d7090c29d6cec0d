#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"
#include "schmidt/plan/layers.h"

namespace schmidt::plan {

/// A layer that is stored as one network of sites (m, 1) x (1, n).
struct LowRankLayer {
  Layer layer;  ///< stored as one, even where it stacks several: a member of its own
  int64_t rank = 0;
};

/// What a model's compressed layers of blocks are, each in the model's order.
struct CompressedLayers {
  std::vector<LowRankLayer> low_ranks;
  std::vector<Layer> networks;  ///< of other sites, or sums of networks
  std::vector<Layer> others;    ///< in integers of few bits, or in kinds without networks
};

/// Of a config; `path` is for messages. Throws FormatError for a form that does not fit its kind.
CompressedLayers compressed_layers(const model::ModelConfig& config,
                                   const std::filesystem::path& path);

/// Names of the tensors that hold a layer's weight, biases left out, sorted.
std::vector<std::string> weight_tensors(const io::Checkpoint& checkpoint, const Layer& layer);

/// The type of its numbers there. Throws c10::ValueError if the checkpoint has no such layer.
torch::ScalarType weight_dtype(const io::Checkpoint& checkpoint, const Layer& layer);

}  // namespace schmidt::plan
