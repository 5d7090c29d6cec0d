#include "schmidt/model/mpo_projection.h"

namespace schmidt::model {
namespace {

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  Network network = load_network(form_of(layer, weights), spec.name, spec.out_features,
                                 spec.in_features, weights);
  return std::make_shared<MpoProjection>(spec.name, std::move(network), load_bias(spec, weights));
}

WeightDescription describe(const io::JsonRecord& form, const std::string& /*name*/,
                           const TensorHeaders& /*tensors*/) {
  const NetworkShape shape = network_shape(form);
  return {.shape = matrix_shape(shape), .networks = {shape}};
}

StoredWeight pack(const std::string& name, const StoredWeight& weight, const PackOptions& options) {
  StoredWeight packed = pack_network(name, weight.form, weight, options);
  packed.form["kind"] = kMpoKind.name;
  return packed;
}

}  // namespace

const LayerKind kMpoKind = {
    .name = "mpo", .load = load_each<load_one>, .describe = describe, .pack = pack};

StoredWeight mpo_weight(const std::string& name, const tn::Mpo& mpo) {
  nlohmann::json form = network_form(mpo);
  form["kind"] = kMpoKind.name;
  return {std::move(form), network_tensors(name, mpo)};
}

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

std::vector<NamedTensor> MpoProjection::tensors() const {
  std::vector<NamedTensor> all = network_tensors(name_, network_);
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
