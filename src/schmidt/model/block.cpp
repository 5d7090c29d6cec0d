#include "schmidt/model/block.h"

#include <span>

#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>

#include "schmidt/kernels/rope.h"
#include "schmidt/kernels/swiglu.h"
#include "schmidt/model/attention.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/norm.h"

namespace schmidt::model {

Block::Block(const ModelConfig& config, int64_t index, const Weights& weights)
    : config_(config), index_(index) {
  for (const auto& [norm, name, size] : block_norms(config, index)) {
    norms_[static_cast<size_t>(norm)] = weights.read(name + ".weight", {size});
  }
  groups_ = block_groups(config, index);
  for (const Group group : groups_) {
    projections_.push_back(load_group(group_layers(config, index, group), config, weights));
  }
  for (const auto& [name, experts] : block_routers(config, index)) {
    routers_.push_back(
        {name + ".weight", weights.read(name + ".weight", {experts, config.hidden_size})});
  }
  // The forms of all layers of the model, which would be in memory once for each block.
  config_.compressed_layers = nlohmann::json::object();
}

Block::Heads Block::split_heads(const torch::Tensor& qkv, const RopeTable& rope) const {
  const int64_t kv_heads = config_.num_kv_heads;
  const torch::Tensor all = qkv.unflatten(-1, {config_.num_heads + 2 * kv_heads, config_.head_dim});
  torch::Tensor q = all.narrow(-2, 0, config_.num_heads);
  torch::Tensor k = all.narrow(-2, config_.num_heads, kv_heads);
  const torch::Tensor v = all.narrow(-2, config_.num_heads + kv_heads, kv_heads);
  q = turned(normed_heads(q, Norm::kQ), rope);
  k = turned(normed_heads(k, Norm::kK), rope);
  return {q, k, v};
}

// x [.., heads, d].
torch::Tensor Block::normed_heads(const torch::Tensor& x, Norm norm) const {
  switch (config_.qk_norm) {
    case QkNorm::kNone:
      return x;
    case QkNorm::kHeads:
      return normed(config_, x, weight(norm));
    case QkNorm::kWhole:
      return normed(config_, x.flatten(-2), weight(norm)).unflatten(-1, {x.size(-2), x.size(-1)});
  }
  TORCH_INTERNAL_ASSERT(false, "unknown norm of q and k");
}

// x [.., heads, d].
torch::Tensor Block::turned(const torch::Tensor& x, const RopeTable& rope) const {
  const bool local = config_.windows[index_] && rope.local_cos.defined();
  const torch::Tensor& cos = local ? rope.local_cos : rope.cos;
  const torch::Tensor& sin = local ? rope.local_sin : rope.sin;
  const int64_t d = x.size(-1), turning = 2 * cos.size(1);
  if (turning == d) return kernels::rope(x, cos, sin);
  return at::cat(
      {kernels::rope(x.narrow(-1, 0, turning), cos, sin), x.narrow(-1, turning, d - turning)}, -1);
}

kernels::Scores Block::scores() const {
  return {config_.attention_scale, config_.attention_softcap};
}

// rope and packing by value: a pass may be put aside.
BlockPass::Attention Block::text_attention(const torch::Tensor& h, const RopeTable& rope,
                                           const Packing& packing) const {
  TORCH_CHECK_VALUE(
      h.dim() == 3 && h.size(2) == config_.hidden_size && h.size(1) <= rope.positions(),
      "[block] expected h [b, t, ", config_.hidden_size, "] with t up to ", rope.positions(),
      ", got ", h.sizes());
  const RopeTable used = rope.narrow(0, h.size(1));
  return [this, used, packing](const torch::Tensor& qkv) {
    const Heads heads = split_heads(qkv, used);
    return causal_attention(heads.q, heads.k, heads.v, config_.windows[index_], packing, scores())
        .flatten(-2);
  };
}

BlockPass Block::begin(const torch::Tensor& h, const RopeTable& rope,
                       const Packing& packing) const {
  return {*this, text_attention(h, rope, packing), h};
}

BlockPass Block::resume(BlockState state, const RopeTable& rope, const Packing& packing) const {
  const torch::Tensor& states = state.residual.defined() ? state.residual : state.mixed;
  BlockPass::Attention attention = text_attention(states, rope, packing);
  return {*this, std::move(attention), std::move(state)};
}

torch::Tensor Block::forward(const torch::Tensor& h, const RopeTable& rope,
                             const Packing& packing) const {
  return begin(h, rope, packing).finish();
}

torch::Tensor Block::step(const torch::Tensor& h, const StepPlan& plan, const KvCache& cache,
                          const torch::Tensor& wanted) const {
  const auto attention = [&](const torch::Tensor& qkv) {
    const Heads heads = split_heads(qkv, plan.rope);
    return step_attention(heads.q, heads.k, heads.v, plan, config_.windows[index_], cache, index_,
                          scores())
        .flatten(-2);
  };
  BlockPass pass(*this, attention, h);
  pass.apply_until(Group::kOut);
  if (wanted.defined()) pass.select(wanted);
  return pass.finish();
}

torch::Tensor Block::norm(Group group, const torch::Tensor& h) const {
  TORCH_CHECK_VALUE(reads_residual(group),
                    "[block] expected a group that reads the residual stream");
  const torch::Tensor& w = weight(group.kind == Group::kQkv ? Norm::kQkvInput : Norm::kGateUpInput);
  return w.defined() ? normed(config_, h, w) : h;
}

torch::Tensor Block::added(Group group, torch::Tensor outputs) const {
  TORCH_CHECK_VALUE(adds_to_residual(group),
                    "[block] expected a group that adds to the residual stream");
  const torch::Tensor& w = weight(group.kind == Group::kOut ? Norm::kOutOutput : Norm::kDownOutput);
  torch::Tensor update = w.defined() ? normed(config_, outputs, w) : std::move(outputs);
  return config_.residual_scale == 1.0 ? update : update * config_.residual_scale;
}

torch::Tensor Block::gated(const torch::Tensor& gate_up) const {
  return config_.activation == Activation::kSilu ? kernels::swiglu(gate_up)
                                                 : kernels::geglu(gate_up);
}

torch::Tensor Block::shares(const torch::Tensor& h) const {
  TORCH_CHECK_VALUE(mixes_experts(), "[block] expected one with a mixture of experts");
  const ExpertsConfig& experts = *config_.experts;
  const torch::Tensor logits = at::linear(h, routers_.front().tensor);
  const auto [most, picked] =
      at::softmax(logits, -1, torch::kFloat32).topk(experts.active, -1);  // [.., active]
  const torch::Tensor taken = experts.normalized ? most / most.sum(-1, true) : most;
  torch::Tensor shares = at::zeros_like(logits).scatter(-1, picked, taken.to(logits.scalar_type()));
  if (experts.shared_size == 0) return shares;
  return at::cat({shares, at::sigmoid(at::linear(h, routers_.back().tensor))}, -1);
}

// Two groups of attention, then two of each MLP.
size_t Block::slot(Group group) const {
  const bool of_expert = group.kind >= Group::kGateUp && mixes_experts();
  TORCH_CHECK_VALUE(group.expert.has_value() == of_expert, "[block] expected a group of ",
                    of_expert ? "an expert" : "the block", ", got one of ",
                    of_expert ? "the block" : "an expert");
  return static_cast<size_t>(group.kind + 2 * group.expert.value_or(0));
}

const ProjectionPtr& Block::projection(Group group) const { return projections_.at(slot(group)); }

void Block::replace(Group group, ProjectionPtr projection) {
  const int64_t expected = projections_.at(slot(group))->out_features();
  TORCH_CHECK_VALUE(projection != nullptr && projection->out_features() == expected,
                    "[block] expected a projection to ", expected, " outputs, got ",
                    projection == nullptr ? 0 : projection->out_features());
  projections_[slot(group)] = std::move(projection);
}

std::vector<NamedTensor> Block::parameters() const {
  std::vector<NamedTensor> all;
  const std::vector<NormSpec> specs = block_norms(config_, index_);
  const auto add_norm = [&](Norm norm) {
    for (const NormSpec& spec : specs) {
      if (spec.norm == norm) all.push_back({spec.name + ".weight", weight(norm)});
    }
  };
  const auto add = [&](Group group) {
    for (NamedTensor& parameter : projection(group)->parameters()) {
      all.push_back(std::move(parameter));
    }
  };
  add_norm(Norm::kQkvInput);
  add(Group::kQkv);
  add_norm(Norm::kQ);
  add_norm(Norm::kK);
  add(Group::kOut);
  add_norm(Norm::kOutOutput);
  add_norm(Norm::kGateUpInput);
  all.insert(all.end(), routers_.begin(), routers_.end());
  for (const Group group : std::span(groups_).subspan(2)) add(group);
  add_norm(Norm::kDownOutput);
  return all;
}

}  // namespace schmidt::model
