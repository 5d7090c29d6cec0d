#include "schmidt/model/dense_projection.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "schmidt/kernels/linear.h"

namespace schmidt::model {

DenseProjection::DenseProjection(const std::vector<LayerSpec>& layers, torch::Tensor weight,
                                 std::optional<torch::Tensor> bias)
    : weight_(std::move(weight)), bias_(std::move(bias)) {
  int64_t row = 0;
  for (const LayerSpec& layer : layers) row += layer.out_features;
  TORCH_CHECK_VALUE(weight_.dim() == 2 && weight_.size(0) == row, "[dense] expected a weight of ",
                    row, " rows, got ", weight_.sizes());
  TORCH_CHECK_VALUE(!bias_ || (bias_->dim() == 1 && bias_->size(0) == row),
                    "[dense] expected a bias of ", row, " values");
  row = 0;
  for (const LayerSpec& layer : layers) {
    Member member{layer.name, weight_.narrow(0, row, layer.out_features).detach(), std::nullopt};
    if (bias_) member.bias = bias_->narrow(0, row, layer.out_features).detach();
    members_.push_back(std::move(member));
    row += layer.out_features;
  }
}

torch::Tensor DenseProjection::apply(const torch::Tensor& x) const {
  const auto trained = [](const Member& member) {
    return member.weight.requires_grad() || (member.bias && member.bias->requires_grad());
  };
  if (!at::GradMode::is_enabled() || std::none_of(members_.begin(), members_.end(), trained)) {
    return kernels::linear(x, weight_, bias_);
  }
  // Gradients belong to the leaves, which the stacked matrix does not know of.
  std::vector<torch::Tensor> outputs;
  for (const Member& member : members_) {
    outputs.push_back(kernels::linear(x, member.weight, member.bias));
  }
  return outputs.size() == 1 ? outputs.front() : at::cat(outputs, -1);
}

std::vector<NamedTensor> DenseProjection::parameters() const {
  std::vector<NamedTensor> all;
  for (const Member& member : members_) {
    all.push_back({member.name + ".weight", member.weight});
    if (member.bias) all.push_back({member.name + ".bias", *member.bias});
  }
  return all;
}

ProjectionPtr load_dense(std::span<const StoredLayer> layers, const Weights& weights) {
  const bool with_bias = layers.front().spec.bias;
  const int64_t n = layers.front().spec.in_features;
  int64_t rows = 0;
  std::vector<LayerSpec> specs;
  for (const auto& [spec, form] : layers) {
    TORCH_INTERNAL_ASSERT(spec.bias == with_bias && spec.in_features == n,
                          "layers of one group differ in input or bias");
    // Checked before memory is taken on the word of the config.
    weights.require(spec.name + ".weight", {spec.out_features, n});
    rows += spec.out_features;
    specs.push_back(spec);
  }
  const auto options =
      torch::TensorOptions().dtype(weights.options().dtype).device(weights.options().device);
  const torch::Tensor weight = at::empty({rows, n}, options);
  std::optional<torch::Tensor> bias;
  if (with_bias) bias = at::empty({rows}, options);
  int64_t row = 0;
  for (const LayerSpec& spec : specs) {
    weights.read_into(spec.name + ".weight", weight.narrow(0, row, spec.out_features));
    if (bias) weights.read_into(spec.name + ".bias", bias->narrow(0, row, spec.out_features));
    row += spec.out_features;
  }
  return std::make_shared<DenseProjection>(specs, weight, bias);
}

}  // namespace schmidt::model
