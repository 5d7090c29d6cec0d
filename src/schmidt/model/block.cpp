#include "schmidt/model/block.h"

#include <ATen/core/grad_mode.h>

#include "schmidt/kernels/rms_norm.h"
#include "schmidt/kernels/rope.h"
#include "schmidt/kernels/swiglu.h"
#include "schmidt/model/attention.h"
#include "schmidt/model/layer_kinds.h"

namespace schmidt::model {
namespace {

size_t slot(Group group) { return static_cast<size_t>(group); }

// h + update; into `update`'s memory where no gradient needs it.
torch::Tensor residual(const torch::Tensor& h, torch::Tensor update) {
  const bool recorded = at::GradMode::is_enabled() && (h.requires_grad() || update.requires_grad());
  return recorded ? h + update : update.add_(h);
}

}  // namespace

Block::Block(const ModelConfig& config, int64_t index, const Weights& weights)
    : config_(config), index_(index) {
  const std::string prefix = block_prefix(index);
  input_norm_ = weights.read(prefix + "input_layernorm.weight", {config.hidden_size});
  post_attention_norm_ =
      weights.read(prefix + "post_attention_layernorm.weight", {config.hidden_size});
  if (config.qk_norm) {
    q_norm_ = weights.read(prefix + "self_attn.q_norm.weight", {config.head_dim});
    k_norm_ = weights.read(prefix + "self_attn.k_norm.weight", {config.head_dim});
  }
  for (const Group group : kGroups) {
    projections_[slot(group)] = load_group(group_layers(config, index, group), config, weights);
  }
}

Block::Heads Block::split_heads(const torch::Tensor& qkv, const RopeTable& rope) const {
  const auto heads = [&](int64_t begin, int64_t count) {
    return qkv.narrow(-1, begin, count * config_.head_dim).unflatten(-1, {count, config_.head_dim});
  };
  torch::Tensor q = heads(0, config_.num_heads);
  torch::Tensor k = heads(config_.q_features(), config_.num_kv_heads);
  const torch::Tensor v = heads(config_.q_features() + config_.kv_features(), config_.num_kv_heads);
  if (q_norm_) q = kernels::rms_norm(q, *q_norm_, config_.rms_norm_eps);
  if (k_norm_) k = kernels::rms_norm(k, *k_norm_, config_.rms_norm_eps);
  return {kernels::rope(q, rope.cos, rope.sin), kernels::rope(k, rope.cos, rope.sin), v};
}

torch::Tensor Block::compute(const torch::Tensor& h, const RopeTable& rope,
                             const Attention& attention, const InputObserver& observer) const {
  const auto project = [&](Group group, const torch::Tensor& x) {
    if (observer) observer(group, x);
    return projections_[slot(group)]->apply(x);
  };
  const torch::Tensor x = kernels::rms_norm(h, input_norm_, config_.rms_norm_eps);
  const torch::Tensor mixed = attention(split_heads(project(Group::kQkv, x), rope));
  const torch::Tensor attended = residual(h, project(Group::kOut, mixed.flatten(-2)));

  const torch::Tensor z = kernels::rms_norm(attended, post_attention_norm_, config_.rms_norm_eps);
  const torch::Tensor gated = kernels::swiglu(project(Group::kGateUp, z));
  return residual(attended, project(Group::kDown, gated));
}

torch::Tensor Block::forward(const torch::Tensor& h, const RopeTable& rope, const Packing& packing,
                             const InputObserver& observer) const {
  TORCH_CHECK_VALUE(
      h.dim() == 3 && h.size(2) == config_.hidden_size && h.size(1) <= rope.cos.size(0),
      "[block] expected h [b, t, ", config_.hidden_size, "] with t up to ", rope.cos.size(0),
      ", got ", h.sizes());
  const RopeTable used = {rope.cos.narrow(0, 0, h.size(1)), rope.sin.narrow(0, 0, h.size(1))};
  const auto attention = [&](const Heads& heads) {
    return causal_attention(heads.q, heads.k, heads.v, config_.windows[index_], packing);
  };
  return compute(h, used, attention, observer);
}

torch::Tensor Block::input_of(Group group, const torch::Tensor& source,
                              const RopeTable& rope) const {
  switch (group) {
    case Group::kQkv:
      return kernels::rms_norm(source, input_norm_, config_.rms_norm_eps);
    case Group::kOut: {
      const int64_t t = source.size(-2);
      const Heads heads = split_heads(source, {rope.cos.narrow(0, 0, t), rope.sin.narrow(0, 0, t)});
      return causal_attention(heads.q, heads.k, heads.v, config_.windows[index_]).flatten(-2);
    }
    case Group::kGateUp:
      return kernels::rms_norm(source, post_attention_norm_, config_.rms_norm_eps);
    case Group::kDown:
      return kernels::swiglu(source);
  }
  TORCH_INTERNAL_ASSERT(false, "[block] unknown group");
}

torch::Tensor Block::step(const torch::Tensor& h, const StepPlan& plan, KvCache& cache) const {
  const auto attention = [&](const Heads& heads) {
    return step_attention(heads.q, heads.k, heads.v, plan, config_.windows[index_],
                          cache.keys(index_), cache.values(index_));
  };
  return compute(h, plan.rope, attention, {});
}

const ProjectionPtr& Block::projection(Group group) const { return projections_[slot(group)]; }

void Block::replace(Group group, ProjectionPtr projection) {
  const int64_t expected = projections_[slot(group)]->out_features();
  TORCH_CHECK_VALUE(projection != nullptr && projection->out_features() == expected,
                    "[block] expected a projection to ", expected, " outputs, got ",
                    projection == nullptr ? 0 : projection->out_features());
  projections_[slot(group)] = std::move(projection);
}

std::vector<NamedTensor> Block::parameters() const {
  const std::string prefix = block_prefix(index_);
  std::vector<NamedTensor> all = {{prefix + "input_layernorm.weight", input_norm_}};
  const auto add = [&](Group group) {
    for (NamedTensor& parameter : projection(group)->parameters()) {
      all.push_back(std::move(parameter));
    }
  };
  add(Group::kQkv);
  if (q_norm_) all.push_back({prefix + "self_attn.q_norm.weight", *q_norm_});
  if (k_norm_) all.push_back({prefix + "self_attn.k_norm.weight", *k_norm_});
  add(Group::kOut);
  all.push_back({prefix + "post_attention_layernorm.weight", post_attention_norm_});
  add(Group::kGateUp);
  add(Group::kDown);
  return all;
}

}  // namespace schmidt::model
