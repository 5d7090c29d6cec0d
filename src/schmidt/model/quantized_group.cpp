#include "schmidt/model/quantized_group.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

namespace schmidt::model {
namespace {

torch::Tensor stack(const std::vector<QuantizedGroup::Layer>& layers,
                    const torch::Tensor& (QuantizedMatrix::*part)() const) {
  std::vector<torch::Tensor> parts;
  for (const auto& layer : layers) parts.push_back((layer.weight.*part)());
  return parts.front().defined() ? at::cat(parts) : torch::Tensor();
}

QuantizedMatrix stack(const std::vector<QuantizedGroup::Layer>& layers) {
  const QuantizedMatrix& first = layers.front().weight;
  return {first.format(), stack(layers, &QuantizedMatrix::packed),
          stack(layers, &QuantizedMatrix::scales), stack(layers, &QuantizedMatrix::zeros),
          first.activations()};
}

}  // namespace

bool fit_together(const QuantizedGroup::Layer& a, const QuantizedGroup::Layer& b) {
  return a.weight.format() == b.weight.format() && a.weight.columns() == b.weight.columns() &&
         a.weight.scales().scalar_type() == b.weight.scales().scalar_type() &&
         a.bias.has_value() == b.bias.has_value();
}

QuantizedGroup::QuantizedGroup(const std::vector<Layer>& layers, torch::ScalarType dtype)
    : stacked_(stack(layers)) {
  if (layers.front().bias) {
    std::vector<torch::Tensor> biases;
    for (const Layer& layer : layers) biases.push_back(*layer.bias);
    bias_ = at::cat(biases);
  }
  std::vector<ProjectionPtr> parts;
  int64_t row = 0;
  for (const Layer& layer : layers) {
    const int64_t m = layer.weight.rows();
    const auto rows = [&](const torch::Tensor& t) {
      return t.defined() ? t.narrow(0, row, m).detach() : t;
    };
    const QuantizedMatrix own(stacked_.format(), rows(stacked_.packed()), rows(stacked_.scales()),
                              rows(stacked_.zeros()), stacked_.activations());
    trained_.push_back(own.scales());
    std::optional<torch::Tensor> bias;
    if (bias_) trained_.push_back(*(bias = rows(*bias_)));
    parts.push_back(std::make_shared<QuantizedProjection>(layer.name, own, bias, dtype));
    row += m;
  }
  each_ = concatenate(std::move(parts));
}

kernels::TeamProductPtr QuantizedGroup::team_product(torch::ScalarType dtype) const {
  return stacked_.team_product(bias_, dtype);
}

torch::Tensor QuantizedGroup::apply(const torch::Tensor& x) const {
  // Gradients belong to the leaves, which the stacked matrix does not know of.
  if (at::GradMode::is_enabled() &&
      std::ranges::any_of(trained_, [](const torch::Tensor& t) { return t.requires_grad(); })) {
    return each_->apply(x);
  }
  const torch::Tensor y = stacked_.multiply(x);
  return bias_ ? y + *bias_ : y;
}

}  // namespace schmidt::model
