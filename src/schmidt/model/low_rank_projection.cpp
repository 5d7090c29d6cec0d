#include "schmidt/model/low_rank_projection.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/low_rank_linear.h"
#include "schmidt/kernels/team_products.h"
#include "schmidt/model/network.h"

namespace schmidt::model {

LowRankProjection::LowRankProjection(std::vector<LowRankLayer> layers) {
  std::vector<torch::Tensor> last;
  std::vector<torch::Tensor> biases;
  for (LowRankLayer& layer : layers) {
    tn::check_gauge_fixed(layer.weight);
    TORCH_CHECK_VALUE(tn::is_low_rank(layer.weight),
                      "[low rank] expected sites (m, 1) x (1, n) for ", layer.name);
    const int64_t m = layer.weight.shape.out_dims[0];
    TORCH_CHECK_VALUE(!layer.bias || layer.bias->sizes() == at::IntArrayRef({m}),
                      "[low rank] expected a bias of ", m, " values for ", layer.name);
    const torch::Tensor right = layer.weight.cores[1].flatten(1);
    last.push_back(right);
    // Each begins at an even row, as kernels read pairs of outputs.
    if (right.size(0) % 2 != 0) last.push_back(at::zeros({1, right.size(1)}, right.options()));
    if (layer.bias) biases.push_back(*layer.bias);
    kernels::ColumnOrder order(layer.weight.pivots[0], m);
    members_.push_back({std::move(layer), std::move(order), 0});
  }
  TORCH_CHECK_VALUE(biases.empty() || biases.size() == members_.size(),
                    "[low rank] expected biases of all layers or none");
  stacked_ = at::cat(last);
  if (!biases.empty()) bias_ = at::cat(biases);
  int64_t row = 0, column = 0;
  for (Member& member : members_) {  // one memory for each weight
    torch::Tensor& core = member.layer.weight.cores[1];
    const int64_t r = core.size(0), m = member.layer.weight.shape.out_dims[0];
    core = stacked_.narrow(0, row, r).view(core.sizes()).detach();
    if (bias_) member.layer.bias = bias_->narrow(0, column, m).detach();
    member.row = row;
    row += r + r % 2;
    column += m;
  }
}

std::vector<kernels::LowRankWeight> LowRankProjection::weights() const {
  std::vector<kernels::LowRankWeight> weights;
  for (const auto& [layer, order, row] : members_) {
    weights.push_back({row, layer.weight.cores[0], &order});
  }
  return weights;
}

torch::Tensor LowRankProjection::outputs(const torch::Tensor& x) const {
  return kernels::low_rank_linear(x, stacked_, weights());
}

kernels::TeamProductPtr LowRankProjection::team_product(torch::ScalarType dtype) const {
  const auto fits = [&](const torch::Tensor& t) {
    return t.scalar_type() == dtype && kernels::fast_types({&t}) && t.dim() >= 2 &&
           t.stride(-1) == 1;
  };
  if (!fits(stacked_) || !std::ranges::all_of(members_, [&](const Member& member) {
        return fits(member.layer.weight.cores[0]);
      })) {
    return nullptr;
  }
  return kernels::biased(kernels::low_rank_team_product(stacked_, weights()), bias_, dtype);
}

bool LowRankProjection::is_trained() const {
  return at::GradMode::is_enabled() && std::ranges::any_of(members_, [](const Member& member) {
           const auto trained = [](const torch::Tensor& t) { return t.requires_grad(); };
           const LowRankLayer& layer = member.layer;
           return std::ranges::any_of(layer.weight.cores, trained) ||
                  (layer.bias && trained(*layer.bias));
         });
}

torch::Tensor LowRankProjection::apply(const torch::Tensor& x) const {
  if (!is_trained()) {
    const torch::Tensor y = outputs(x);
    return bias_ ? y + *bias_ : y;
  }
  // Gradients belong to the leaves, which the stacked matrix does not know of.
  std::vector<torch::Tensor> parts;
  for (const auto& [layer, order, row] : members_) {
    const torch::Tensor y = tn::apply(layer.weight, x);
    parts.push_back(layer.bias ? y + *layer.bias : y);
  }
  return at::cat(parts, -1);
}

int64_t LowRankProjection::out_features() const {
  int64_t total = 0;
  for (const Member& member : members_) total += member.layer.weight.shape.out_dims[0];
  return total;
}

std::vector<NamedTensor> LowRankProjection::parameters() const {
  std::vector<NamedTensor> all;
  for (const auto& [layer, order, row] : members_) {
    for (NamedTensor& core : network_cores(layer.name, layer.weight))
      all.push_back(std::move(core));
    if (layer.bias) all.push_back({layer.name + ".bias", *layer.bias});
  }
  return all;
}

std::vector<NamedTensor> LowRankProjection::tensors() const {
  std::vector<NamedTensor> all;
  for (const auto& [layer, order, row] : members_) {
    for (NamedTensor& tensor : network_tensors(layer.name, layer.weight)) {
      all.push_back(std::move(tensor));
    }
    if (layer.bias) all.push_back({layer.name + ".bias", *layer.bias});
  }
  return all;
}

torch::Tensor LowRankProjection::weight() const {
  std::vector<torch::Tensor> weights;
  for (const Member& member : members_) weights.push_back(network_matrix(member.layer.weight));
  return at::cat(weights);
}

}  // namespace schmidt::model
