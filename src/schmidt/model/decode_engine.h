#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/attention_scores.h"
#include "schmidt/kernels/team_product.h"
#include "schmidt/model/block.h"
#include "schmidt/model/config.h"
#include "schmidt/model/kv_cache.h"
#include "schmidt/model/step_plan.h"

namespace schmidt::model {

/// All blocks of a model for steps of a few tokens, as in decoding: one team of threads goes
/// through them, where Block::step wakes threads for every product. Each member holds the residual
/// stream itself, and norms, gates and roundings of a few rows; products and heads are shared out,
/// and the team meets six times a block, and once more within a product of two steps:
///
///   every member        shared out           meets
///   h, norm             q, k, v                1
///                       rotation, cache        2
///                       heads                  3
///                       o                      4
///   h += o, norm        gate, up               5
///   swiglu              down                   6
///   h += down
///
/// Numbers are rounded where Block::step rounds them, so that both give the same.
class DecodeEngine {
 public:
  /// Whether blocks of such a model may have one: norms before what reads the residual stream, one
  /// MLP with SiLU, heads that turn as a whole.
  static bool suits(const ModelConfig& config);

  /// Null where only Block::step computes a block: it does not suit, or a layer has no team
  /// product.
  static std::shared_ptr<const DecodeEngine> make(const ModelConfig& config,
                                                  const std::vector<Block>& blocks,
                                                  torch::ScalarType dtype);

  /// Whether a step is one of a few tokens that attend one by one.
  bool suits(const StepPlan& plan) const;

  /// h [n, hidden] of the plan's tokens -> [n, hidden] behind the last block; keys and values go
  /// into the blocks that the cache has for them. But for its result it allocates nothing once it
  /// has seen as many tokens. Several threads may call it.
  torch::Tensor step(const torch::Tensor& h, const StepPlan& plan, const KvCache& cache) const;

 private:
  struct BlockLayers {
    std::vector<ProjectionPtr> held;  // whose memory the products read
    kernels::TeamProductPtr qkv, out, gate_up, down;
    torch::Tensor qkv_norm, q_norm, k_norm, gate_up_norm;  // q_norm, k_norm where heads have any
    std::optional<int64_t> window;
  };
  struct Workspace;
  template <typename T>
  class Pass;

  DecodeEngine(const ModelConfig& config, std::vector<BlockLayers> layers, torch::ScalarType dtype);

  int64_t hidden_, heads_, kv_heads_, d_;
  int64_t intermediate_;  // of the largest MLP
  float eps_, residual_scale_;
  kernels::Scores scores_;
  torch::ScalarType dtype_;
  std::vector<BlockLayers> layers_;
  int64_t between_ = 0;  // the most numbers of a row within a product
  bool small_ = false;   // so that threads are not worth waking
};

}  // namespace schmidt::model
