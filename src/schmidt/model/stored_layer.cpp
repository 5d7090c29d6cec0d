#include "schmidt/model/stored_layer.h"

namespace schmidt::model {

Form form_of(const StoredLayer& layer, const Weights& weights) {
  return Form(layer.form, "compression_config.layers." + layer.spec.name, weights.path());
}

std::optional<torch::Tensor> load_bias(const LayerSpec& layer, const Weights& weights) {
  if (!layer.bias) return std::nullopt;
  return weights.read(layer.name + ".bias", {layer.out_features});
}

}  // namespace schmidt::model
