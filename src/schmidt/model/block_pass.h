#pragma once

#include <functional>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/model/layers.h"
#include "schmidt/model/projection.h"

namespace schmidt::model {

class Block;

/// Where a pass through a block stands.
struct BlockState {
  std::optional<Group> group;  ///< whose work is next; none after the last
  /// [.., hidden], the stream as the half of the block finds it; only its last group asks for it.
  torch::Tensor residual;
  torch::Tensor input;       ///< [.., n], what the group reads; undefined after the last
  torch::Tensor mixed = {};  ///< [.., hidden], what all experts read; undefined outside of them
  torch::Tensor sum = {};    ///< [.., hidden], of the experts before; undefined before the first
};

/// Hidden states on their way through a decoder block, halted before each group of layers:
///
///     h ──┬─ norm ─ kQkv ─ attention ─ kOut ── + ──┬─ norm ─ kGateUp ─ gate ─ kDown ── + ── h'
///         └────────────────────────────────────┘   └───────────────────────────────────┘
///
/// Some families have a norm and a factor in front of each +, and no norm where the half begins.
///
/// In a mixture kGateUp, the gate and kDown are gone through once for each expert, and the sum of
/// their outputs, each times its share of the token, is added. What an expert reads is zero at the
/// tokens that do not take it.
///
/// The work of a group is the block's own projection or another in its place. A pass that is put
/// aside goes on from its BlockState. A value: a copy goes on by itself. Its block has to outlive
/// it. Differentiable. Made by Block::begin and Block::resume.
class BlockPass {
 public:
  /// The outputs of q, k and v [.., q + 2 kv] -> what o reads [.., q].
  using Attention = std::function<torch::Tensor(const torch::Tensor& qkv)>;

  /// Before kQkv. h [.., hidden].
  BlockPass(const Block& block, Attention attention, torch::Tensor h);

  BlockPass(const Block& block, Attention attention, BlockState state);

  const BlockState& state() const { return state_; }
  std::optional<Group> group() const { return state_.group; }
  const torch::Tensor& input() const { return state_.input; }

  /// Of the tokens, counted through, those that take the expert whose group is next: int64 [k].
  torch::Tensor takers() const;

  /// After the last group the block's output [.., hidden].
  const torch::Tensor& residual() const { return state_.residual; }

  /// What the group's own projection, or another one, gives [.., m]: of an expert zero at the
  /// tokens that do not take it.
  torch::Tensor outputs() const;
  torch::Tensor outputs(const Projection& projection) const;

  /// Goes on to the next group with `outputs` [.., m] of this one, whose memory it may take where
  /// nobody asks for a gradient.
  void advance(torch::Tensor outputs);

  /// The same with the outputs of the block's own projection, or of another one.
  void apply() { advance(outputs()); }
  void apply(const Projection& projection) { advance(outputs(projection)); }

  /// Before kOut: goes on with these tokens alone, int64 [k], of h [n, hidden]. No token asks for
  /// another one's states from here on.
  void select(const torch::Tensor& tokens);

  /// Applies the block's own projections up to `group`.
  void apply_until(Group group);

  /// Applies the block's own projections that are left: the block's output [.., hidden].
  torch::Tensor finish();

 private:
  void begin_expert(int64_t expert);
  void mix_experts();
  torch::Tensor share(int64_t expert) const;

  const Block* block_;
  Attention attention_;
  BlockState state_;
  torch::Tensor shares_;  // [.., experts], of the tokens; while experts are gone through
};

}  // namespace schmidt::model
