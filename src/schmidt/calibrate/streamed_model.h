#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/block.h"
#include "schmidt/model/weights.h"

namespace schmidt::calibrate {

/// A model that is read piece by piece, for work that goes through it block by
/// block with one block in memory. Each call reads from the checkpoint anew.
class StreamedModel {
 public:
  /// Reads the config. Throws FormatError, c10::ValueError as model::Model::load.
  StreamedModel(const io::Checkpoint& checkpoint, const model::LoadOptions& options);

  const model::ModelConfig& config() const { return config_; }
  const model::Weights& weights() const { return weights_; }
  const model::LoadOptions& options() const { return weights_.options(); }

  /// ids int64 [..] -> [.., hidden]; the embedding is in memory during the call.
  torch::Tensor embed(const torch::Tensor& ids) const;
  model::Block block(int64_t index) const { return model::Block(config_, index, weights_); }
  model::RopeTable rope(int64_t t) const;

  /// What follows the last block.
  struct Head {
    const model::ModelConfig* config;                    // of the streamed model, which outlives it
    torch::Tensor norm;                                  // [hidden]
    model::ProjectionPtr output;                         // to [vocab]
    torch::Tensor normed(const torch::Tensor& h) const;  ///< [.., hidden], what `output` reads
    torch::Tensor logits(const torch::Tensor& h) const;  ///< h [.., hidden] -> [.., vocab]
  };
  Head head() const;

 private:
  model::ModelConfig config_;
  model::Weights weights_;
};

/// A group's layers as a checkpoint would hold them with `tensors` in place of, or
/// beside, its own and without those named in `dropped`; `config` says how they are
/// stored then. Throws FormatError as model::load_group.
model::ProjectionPtr load_changed_group(const io::Checkpoint& checkpoint,
                                        const model::ModelConfig& config, int64_t block,
                                        model::Group group,
                                        std::map<std::string, torch::Tensor> tensors,
                                        const std::set<std::string>& dropped,
                                        const model::LoadOptions& options);

}  // namespace schmidt::calibrate
