#pragma once

#include <functional>
#include <optional>

#include <torch/types.h>

#include "schmidt/model/layers.h"
#include "schmidt/model/projection.h"

namespace schmidt::model {

class Block;

/// Hidden states on their way through a decoder block, halted before each group of layers:
///
///     h ──┬─ norm ─ kQkv ─ attention ─ kOut ── + ──┬─ norm ─ kGateUp ─ gate ─ kDown ── + ── h'
///         └────────────────────────────────────┘   └───────────────────────────────────┘
///
/// Some families have a norm and a factor in front of each +, and no norm where the half begins.
///
/// The work of a group is the block's own projection or another in its place. Where a pass
/// stands is its group, what the group reads and the residual stream: a pass that is put aside
/// goes on from those three. A value: a copy goes on by itself. Its block has to outlive it.
/// Differentiable. Made by Block::begin and Block::resume.
class BlockPass {
 public:
  /// The outputs of q, k and v [.., q + 2 kv] -> what o reads [.., q].
  using Attention = std::function<torch::Tensor(const torch::Tensor& qkv)>;

  /// Before kQkv. h [.., hidden].
  BlockPass(const Block& block, Attention attention, torch::Tensor h);

  /// Before `group`. residual [.., hidden], input [.., n].
  BlockPass(const Block& block, Attention attention, Group group, torch::Tensor residual,
            torch::Tensor input);

  /// The layers that are next; none after the last.
  std::optional<Group> group() const { return group_; }

  /// What they read [.., n]; undefined after the last.
  const torch::Tensor& input() const { return input_; }

  /// The residual stream [.., hidden] that the half of the block at work adds to; after the last
  /// group the block's output.
  const torch::Tensor& residual() const { return residual_; }

  /// Goes on to the next group with `outputs` [.., m] of this one, whose memory it may take where
  /// nobody asks for a gradient.
  void advance(torch::Tensor outputs);

  /// The same with the outputs of the block's own projection, or of another one.
  void apply();
  void apply(const Projection& projection) { advance(projection.apply(input_)); }

  /// Applies the block's own projections up to `group`.
  void apply_until(Group group);

  /// Applies the block's own projections that are left: the block's output [.., hidden].
  torch::Tensor finish();

 private:
  const Block* block_;
  Attention attention_;
  std::optional<Group> group_;
  torch::Tensor residual_;
  torch::Tensor input_;
};

}  // namespace schmidt::model
