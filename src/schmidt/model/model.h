#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/block.h"
#include "schmidt/model/config.h"
#include "schmidt/model/kv_cache.h"
#include "schmidt/model/named_tensor.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

class DecodeEngine;
class LikeliestSearch;

/// A decoder-only language model of the Llama family:
///
///   ids -> embedding -> block 0 .. block L-1 -> RMSNorm -> output layer -> logits
///
/// Which weights are compressed, and how, is the business of the projections in its
/// blocks. A value: copies share their tensors.
class Model {
 public:
  /// Reads config.json and every tensor it calls for, one at a time.
  /// Throws FormatError if config or tensors do not hold a model, c10::ValueError
  /// for options that no model runs in.
  static Model load(const io::Checkpoint& checkpoint, const LoadOptions& options = {});

  /// The same from a config.json and tensors at hand.
  static Model load(const nlohmann::json& config, const Weights& weights);

  /// Blocks [begin, end) alone, and what belongs to them: the embedding to the first block
  /// of the model; final norm and output layer, the tied embedding too, to the last. No
  /// other tensor is read. The blocks count from 0 here; a piece that is not there throws
  /// c10::ValueError, as do [begin, end) beyond the model.
  static Model load_part(const io::Checkpoint& checkpoint, int64_t begin, int64_t end,
                         const LoadOptions& options = {});

  const ModelConfig& config() const { return config_; }
  torch::ScalarType dtype() const { return like_.scalar_type(); }
  torch::Device device() const { return like_.device(); }

  /// ids int64 [b, t] -> hidden states after the final norm [b, t, hidden].
  /// Positions count from 0 in every row; right padding changes nothing before it.
  /// segments int64 [b, t] says which example of its row a token belongs to, as
  /// packing_of takes them: examples do not see each other.
  /// Differentiable; holds no state. Throws c10::ValueError for an id that is not in
  /// the vocabulary, or segments that do not fit.
  torch::Tensor hidden(const torch::Tensor& ids,
                       const std::optional<torch::Tensor>& segments = std::nullopt) const;

  /// Final hidden states [..., hidden] -> logits [..., vocab], in the model's dtype.
  torch::Tensor logits(const torch::Tensor& hidden) const;

  /// Hidden states as `logits` takes them, [k, hidden] -> the id of the largest logit of each, the
  /// first of equal ones, `excluded` ones left out. Nothing where it has to be looked for among all
  /// logits: the model was not loaded with `search_likeliest`, or LikeliestSearch finds nothing.
  std::optional<std::vector<int64_t>> find_likeliest(
      const torch::Tensor& hidden, const std::vector<int64_t>& excluded = {}) const;

  /// The output layer's rows for tokens int64 [k], -> [k, hidden]. Differentiable.
  torch::Tensor output_rows(const torch::Tensor& tokens) const;

  /// ids int64 [b, t] -> logits of all positions [b, t, vocab].
  torch::Tensor forward(const torch::Tensor& ids) const { return logits(hidden(ids)); }

  /// Appends tokens to the rows of a cache. ids int64 [b, t] right-padded, of which
  /// lengths[i] are valid in row i; -> logits after the last valid token of each row
  /// [b, vocab], zeros for a row with none. A row without tokens costs nothing and
  /// its cache stays as it is. Records no gradient.
  /// Throws c10::ValueError if ids and lengths do not fit the cache or vocabulary, or the cache
  /// has no blocks left for them; its rows are then as they were.
  torch::Tensor step(const torch::Tensor& ids, const std::vector<int64_t>& lengths,
                     KvCache& cache) const;

  /// The same, -> hidden states after the final norm of each row's last `wanted` tokens, row after
  /// row [sum of wanted, hidden], which `logits` takes; of a row without tokens the number is not
  /// looked at. Other tokens go no further in the last block than its attention.
  /// Throws c10::ValueError also for more of them than a row has tokens.
  torch::Tensor step_states(const torch::Tensor& ids, const std::vector<int64_t>& lengths,
                            const std::vector<int64_t>& wanted, KvCache& cache) const;

  /// An empty cache for this model, on its device, of the type that the model was loaded with; of
  /// `blocks` blocks where that is given. Throws c10::ValueError as KvCache.
  KvCache make_cache(int64_t batch, int64_t capacity,
                     std::optional<int64_t> blocks = std::nullopt) const;

  /// All stored tensors under the names of a checkpoint, a tied embedding once. Leaf
  /// tensors: set requires_grad to train them, update them in place.
  std::vector<NamedTensor> parameters() const;

  /// Those of them that `logits` reads: the output layer's, or the tied embedding.
  std::vector<NamedTensor> output_parameters() const;

  /// All that is stored: the parameters, and indices or codes that training leaves alone. Those
  /// are to be read: some are made of what the model computes with.
  std::vector<NamedTensor> tensors() const;

  /// What a file of these weights holds: parameters, and indices or codes beside them.
  int64_t bytes() const;

  /// Those of them that a step of one token reads: of an embedding that is not the output layer the
  /// row of the token alone, which does not count, and of experts those that the token takes; of an
  /// output layer in which likeliest tokens have been searched for what the search reads.
  int64_t bytes_of_step() const;

  // The pieces of `hidden`, for work that goes block by block.

  /// ids int64 [...] -> [..., hidden].
  torch::Tensor embed(const torch::Tensor& ids) const;
  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  const Block& block(int64_t index) const;
  /// To train it, or to put other layers in their places: steps of a few tokens take longer from
  /// then on.
  Block& block(int64_t index);
  /// h [n, hidden] of a plan's tokens through the blocks that are here, -> [n, hidden], or of those
  /// alone that are `wanted`, int64 [k]. The cache has room for them already.
  torch::Tensor step_blocks(torch::Tensor h, const StepPlan& plan, const KvCache& cache,
                            const torch::Tensor& wanted = {}) const;
  /// Angles of positions 0 .. t - 1, as Block::forward takes them.
  RopeTable rope(int64_t t) const;
  /// h [..., hidden] -> [..., hidden].
  torch::Tensor final_norm(const torch::Tensor& h) const;

 private:
  Model() = default;
  torch::Tensor advance(const StepPlan& plan, const std::vector<int64_t>& wanted,
                        KvCache& cache) const;
  static Model load_blocks(const nlohmann::json& config, const Weights& weights, int64_t begin,
                           std::optional<int64_t> end);
  /// `share`: of each group's bytes.
  int64_t bytes_after_embedding(const std::function<double(Group)>& share) const;

  ModelConfig config_;
  torch::Tensor like_;  // [0], of the dtype and device of all
  CacheType cache_type_ = CacheType::kModel;
  ProjectionPtr embedding_;  // W [vocab, hidden]; null in a part that needs none
  std::vector<Block> blocks_;
  std::shared_ptr<const DecodeEngine> engine_;  // of the blocks; null where there is none
  torch::Tensor norm_;    // [hidden]; undefined in a part without the last block
  ProjectionPtr output_;  // to [vocab]; the embedding where it is tied, null without the last block
  std::shared_ptr<const LikeliestSearch> search_;  // of the output layer; null where there is none
};

}  // namespace schmidt::model
