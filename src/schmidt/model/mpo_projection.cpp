#include "schmidt/model/mpo_projection.h"

namespace schmidt::model {
namespace {

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  Network network = load_network(form_of(layer, weights), spec.name, spec.out_features,
                                 spec.in_features, weights);
  return std::make_shared<MpoProjection>(spec.name, std::move(network), load_bias(spec, weights));
}

}  // namespace

MpoProjection::MpoProjection(std::string name, Network network, std::optional<torch::Tensor> bias)
    : name_(std::move(name)),
      network_(std::move(network)),
      bias_(std::move(bias)),
      out_features_(network_size(network_).m) {
  TORCH_CHECK_VALUE(!bias_ || (bias_->dim() == 1 && bias_->size(0) == out_features_),
                    "[mpo] expected a bias of ", out_features_, " values for ", name_);
}

torch::Tensor MpoProjection::apply(const torch::Tensor& x) const {
  const torch::Tensor y = apply_network(network_, x);
  return bias_ ? y + *bias_ : y;
}

std::vector<NamedTensor> MpoProjection::parameters() const {
  std::vector<NamedTensor> all = network_cores(name_, network_);
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

ProjectionPtr load_mpo(std::span<const StoredLayer> layers, const Weights& weights) {
  std::vector<ProjectionPtr> parts;
  for (const StoredLayer& layer : layers) parts.push_back(load_one(layer, weights));
  return concatenate(std::move(parts));
}

}  // namespace schmidt::model
