#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/layer_kind.h"

namespace schmidt::package {

/// One module of a checkpoint: a layer with its weight and bias, or with its cores.
/// Layers stored as one are one module: its shape is that of their stacked matrix.
struct ModuleSummary {
  std::string name;  ///< "model.layers.0.self_attn.q_proj"
  std::string kind;  ///< "dense", "embedding", "norm", "router", or the kind in compression_config
  bool compressed = false;     ///< in another form than its original's
  std::vector<int64_t> shape;  ///< of the weight, or of the one that the cores stand for
  std::vector<model::NetworkShape> networks;  ///< its summands; empty if not compressed
  std::string label;                          ///< what else is to say of its form
  std::string stored_as;                      ///< "BF16", "Q4_1"
  int64_t parameters = 0;                     ///< stored; pivots are indices and none
  int64_t dense_parameters = 0;               ///< of the original module
  uint64_t bytes = 0;                         ///< on disk, pivots included
};

/// What a checkpoint holds and what its original held. A tied embedding counts once.
struct ModelSummary {
  std::vector<ModuleSummary> modules;  ///< in the model's order
  int64_t parameters = 0;
  int64_t dense_parameters = 0;             ///< of the original model
  int64_t tensorized_parameters = 0;        ///< stored in compressed layers
  int64_t tensorized_dense_parameters = 0;  ///< of the same layers in the original
  uint64_t bytes = 0;                       ///< weights on disk

  double keep() const;             ///< parameters / dense_parameters
  double tensorized_keep() const;  ///< the same of the compressed layers; 1 where there are none
  uint64_t dense_bytes(int64_t bytes_per_scalar) const;
};

/// Reads headers only. Throws FormatError if compression_config does not fit the tensors.
ModelSummary summarize(const io::Checkpoint& checkpoint);

}  // namespace schmidt::package
