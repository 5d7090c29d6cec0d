#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/attention_scores.h"
#include "schmidt/model/block_pass.h"
#include "schmidt/model/config.h"
#include "schmidt/model/kv_cache.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/packing.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/rope_table.h"
#include "schmidt/model/step_plan.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// One decoder block: h + attention(norm(h)), then h + mlp(norm(h)), or as the norms and factors of
/// its config say.
/// A value: copies share their tensors.
class Block {
 public:
  /// Reads the block's tensors. Throws FormatError.
  Block(const ModelConfig& config, int64_t index, const Weights& weights);

  /// h [b, t, hidden] -> [b, t, hidden], positions from 0 in every row. Right padding
  /// changes nothing before it. Differentiable.
  /// rope: of at least t positions; packing: of this batch.
  torch::Tensor forward(const torch::Tensor& h, const RopeTable& rope,
                        const Packing& packing = {}) const;

  /// The same pass, halted before each group of layers.
  BlockPass begin(const torch::Tensor& h, const RopeTable& rope, const Packing& packing = {}) const;

  /// A pass that was put aside, of states [b, t, ..].
  BlockPass resume(BlockState state, const RopeTable& rope, const Packing& packing = {}) const;

  /// h [n, hidden] of the plan's packed tokens -> [n, hidden], or of those alone that are
  /// `wanted`, int64 [k]; keys and values of all go into the blocks that the cache has for them.
  /// Not differentiable.
  torch::Tensor step(const torch::Tensor& h, const StepPlan& plan, const KvCache& cache,
                     const torch::Tensor& wanted = {}) const;

  /// What a group that reads the residual stream reads of it: normed, where the model has a norm
  /// there. h [.., hidden] -> [.., hidden].
  torch::Tensor norm(Group group, const torch::Tensor& h) const;

  /// What the outputs [.., hidden] of a group add to the residual stream: normed and times a
  /// factor, where the model has these there; else the outputs themselves.
  torch::Tensor added(Group group, torch::Tensor outputs) const;

  /// Outputs of gate and up [.., 2 m] -> what down reads [.., m].
  torch::Tensor gated(const torch::Tensor& gate_up) const;

  /// Of a norm; undefined where the model has none there.
  const torch::Tensor& weight(Norm norm) const { return norms_[static_cast<size_t>(norm)]; }

  /// In the order of the computation.
  const std::vector<Group>& groups() const { return groups_; }

  /// Whether a router picks the MLPs of each token.
  bool mixes_experts() const { return !routers_.empty(); }

  /// The shares [.., experts] that tokens take of the experts, from what these read, h [..,
  /// hidden]. Zero but for those that a token takes; the shared expert, the last, is taken by every
  /// token.
  torch::Tensor shares(const torch::Tensor& h) const;

  const ProjectionPtr& projection(Group group) const;

  /// Puts another form of a group's layers in place.
  /// Throws c10::ValueError if it has another number of outputs.
  void replace(Group group, ProjectionPtr projection);

  /// Under the names of a checkpoint, in the order of the computation.
  std::vector<NamedTensor> parameters() const;

 private:
  struct Heads {
    torch::Tensor q;  // [..., heads, d]
    torch::Tensor k;  // [..., kv_heads, d]
    torch::Tensor v;  // [..., kv_heads, d]
  };

  size_t slot(Group group) const;  // among the projections
  torch::Tensor normed_heads(const torch::Tensor& x, Norm norm) const;
  torch::Tensor turned(const torch::Tensor& x, const RopeTable& rope) const;
  kernels::Scores scores() const;
  Heads split_heads(const torch::Tensor& qkv, const RopeTable& rope) const;
  BlockPass::Attention text_attention(const torch::Tensor& h, const RopeTable& rope,
                                      const Packing& packing) const;

  ModelConfig config_;
  int64_t index_;
  std::array<torch::Tensor, kNorms> norms_;  // undefined where the model has none
  std::vector<NamedTensor> routers_;         // of block_routers
  std::vector<Group> groups_;
  std::vector<ProjectionPtr> projections_;  // of the groups
};

}  // namespace schmidt::model
