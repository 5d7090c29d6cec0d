#pragma once

#include <cmath>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include "schmidt/plan/uniform.h"
#include "schmidt/profile/profile_file.h"

namespace schmidt::test {

/// A profile of layers of the model at shares of their parameters whose losses are
/// given by `loss(layer, share)`.
inline profile::Profile make_profile(
    const std::vector<plan::Layer>& layers, const std::vector<double>& shares,
    const std::function<double(const plan::Layer&, double)>& loss) {
  profile::Profile made;
  made.model = "0123456789abcdef";
  made.metric = "kl";
  made.settings = shares;
  made.made_by = nlohmann::json{{"tokens", 512}};
  for (const plan::Layer& layer : layers) {
    profile::LayerProfile one;
    one.network.layer = layer;
    one.network.shape = tn::low_rank_shape(layer.rows, layer.cols);
    one.network.method = "whitened";
    for (const double share : shares) {
      const auto budget = static_cast<int64_t>(share * static_cast<double>(layer.numel()));
      profile::Point point;
      point.bonds = tn::gauge_fixed_bonds_for_budget(one.network.shape, budget);
      point.parameters = tn::gauge_fixed_parameter_count(one.network.shape, point.bonds);
      point.value = point.loss = loss(layer, share);
      point.relative_error = 0.5;
      one.points.push_back(std::move(point));
    }
    made.layers.push_back(std::move(one));
  }
  return made;
}

/// Seven layers a block, as of a small model of the Llama family.
inline std::vector<plan::Layer> seven_layers(int64_t blocks) {
  static constexpr const char* kNames[] = {
      "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  std::vector<plan::Layer> layers;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int k = 0; k < 7; ++k) {
      const std::string name = fmt::format("model.layers.{}.{}", b, kNames[k]);
      layers.push_back({name, b, {k + 1}, {name}, k < 4 ? 48 : k < 6 ? 96 : 48, k < 6 ? 48 : 96});
    }
  }
  return layers;
}

}  // namespace schmidt::test
