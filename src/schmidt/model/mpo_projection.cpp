#include "schmidt/model/mpo_projection.h"

#include <utility>

#include "schmidt/model/low_rank_projection.h"

namespace schmidt::model {
namespace {

/// Neighbours that are low ranks in the fixed gauge stand together, and what is none by itself.
ProjectionPtr load(std::span<const StoredLayer> layers, const Weights& weights) {
  std::vector<ProjectionPtr> parts;
  std::vector<LowRankLayer> low_ranks;
  const auto put_together = [&] {
    if (low_ranks.empty()) return;
    parts.push_back(std::make_shared<LowRankProjection>(std::exchange(low_ranks, {})));
  };
  for (const StoredLayer& layer : layers) {
    const LayerSpec& spec = layer.spec;
    Network network = load_network(form_of(layer, weights), spec.name, spec.out_features,
                                   spec.in_features, weights);
    std::optional<torch::Tensor> bias = load_bias(spec, weights);
    auto* const fixed = std::get_if<tn::GaugeFixed>(&network);
    // On torch::kMeta there are no pivots to look at.
    if (fixed != nullptr && tn::is_low_rank(*fixed) && !fixed->pivots[0].is_meta()) {
      low_ranks.push_back({spec.name, std::move(*fixed), std::move(bias)});
      continue;
    }
    put_together();
    parts.push_back(
        std::make_shared<MpoProjection>(spec.name, std::move(network), std::move(bias)));
  }
  put_together();
  return concatenate(std::move(parts));
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

const LayerKind kMpoKind = {.name = "mpo", .load = load, .describe = describe, .pack = pack};

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
