#include "schmidt/model/stored_layer.h"

#include <algorithm>

namespace schmidt::model {

const NamedTensor* find_tensor(const StoredWeight& weight, const std::string& name) {
  const auto found = std::ranges::find(weight.tensors, name, &NamedTensor::name);
  return found == weight.tensors.end() ? nullptr : &*found;
}

std::vector<NamedTensor> in_dtype(std::vector<NamedTensor> tensors, torch::ScalarType dtype) {
  for (NamedTensor& t : tensors) {
    t.tensor = (t.tensor.is_floating_point() ? t.tensor.to(dtype) : t.tensor).contiguous();
  }
  return tensors;
}

io::JsonRecord form_of(const StoredLayer& layer, const Weights& weights) {
  return io::JsonRecord(layer.form, "compression_config.layers." + layer.spec.name, weights.path());
}

std::optional<torch::Tensor> load_bias(const LayerSpec& layer, const Weights& weights) {
  if (!layer.bias) return std::nullopt;
  return weights.read(layer.name + ".bias", {layer.out_features});
}

}  // namespace schmidt::model
