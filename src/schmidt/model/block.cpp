#include "schmidt/model/block.h"

#include "schmidt/kernels/rms_norm.h"
#include "schmidt/kernels/rope.h"
#include "schmidt/model/attention.h"
#include "schmidt/model/layer_kinds.h"

namespace schmidt::model {
namespace {

size_t slot(Group group) { return static_cast<size_t>(group); }

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
  // The forms of all layers of the model, which would be in memory once for each block.
  config_.compressed_layers = nlohmann::json::object();
}

Block::Heads Block::split_heads(const torch::Tensor& qkv, const RopeTable& rope) const {
  const int64_t kv_heads = config_.num_kv_heads;
  const torch::Tensor all = qkv.unflatten(-1, {config_.num_heads + 2 * kv_heads, config_.head_dim});
  torch::Tensor q = all.narrow(-2, 0, config_.num_heads);
  torch::Tensor k = all.narrow(-2, config_.num_heads, kv_heads);
  const torch::Tensor v = all.narrow(-2, config_.num_heads + kv_heads, kv_heads);
  if (q_norm_) q = kernels::rms_norm(q, *q_norm_, config_.rms_norm_eps);
  if (k_norm_) k = kernels::rms_norm(k, *k_norm_, config_.rms_norm_eps);
  return {kernels::rope(q, rope.cos, rope.sin), kernels::rope(k, rope.cos, rope.sin), v};
}

// rope and packing by value: a pass may be put aside.
BlockPass::Attention Block::text_attention(const torch::Tensor& h, const RopeTable& rope,
                                           const Packing& packing) const {
  TORCH_CHECK_VALUE(
      h.dim() == 3 && h.size(2) == config_.hidden_size && h.size(1) <= rope.cos.size(0),
      "[block] expected h [b, t, ", config_.hidden_size, "] with t up to ", rope.cos.size(0),
      ", got ", h.sizes());
  const RopeTable used = {rope.cos.narrow(0, 0, h.size(1)), rope.sin.narrow(0, 0, h.size(1))};
  return [this, used, packing](const torch::Tensor& qkv) {
    const Heads heads = split_heads(qkv, used);
    return causal_attention(heads.q, heads.k, heads.v, config_.windows[index_], packing)
        .flatten(-2);
  };
}

BlockPass Block::begin(const torch::Tensor& h, const RopeTable& rope,
                       const Packing& packing) const {
  return {*this, text_attention(h, rope, packing), h};
}

BlockPass Block::resume(Group group, const torch::Tensor& residual, const torch::Tensor& input,
                        const RopeTable& rope, const Packing& packing) const {
  return {*this, text_attention(residual, rope, packing), group, residual, input};
}

torch::Tensor Block::forward(const torch::Tensor& h, const RopeTable& rope,
                             const Packing& packing) const {
  return begin(h, rope, packing).finish();
}

torch::Tensor Block::step(const torch::Tensor& h, const StepPlan& plan,
                          const KvCache& cache) const {
  const auto attention = [&](const torch::Tensor& qkv) {
    const Heads heads = split_heads(qkv, plan.rope);
    return step_attention(heads.q, heads.k, heads.v, plan, config_.windows[index_], cache, index_)
        .flatten(-2);
  };
  return BlockPass(*this, attention, h).finish();
}

torch::Tensor Block::norm(Group group, const torch::Tensor& h) const {
  TORCH_CHECK_VALUE(reads_residual(group),
                    "[block] expected a group that reads the residual stream");
  const torch::Tensor& weight = group == Group::kQkv ? input_norm_ : post_attention_norm_;
  return kernels::rms_norm(h, weight, config_.rms_norm_eps);
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
