#include "schmidt/model/layer_kinds.h"

#include <array>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/model/sum_projection.h"

namespace schmidt::model {
namespace {

constexpr std::array<LayerKind, 3> kLayerKinds = {{
    {"dense", load_dense},
    {"mpo", load_mpo},
    {"sum", load_sum},
}};

const LayerKind& find_kind(const StoredLayer& layer, const Weights& weights) {
  std::string found = "nothing";
  if (layer.form.is_object() && layer.form.contains("kind") && layer.form["kind"].is_string()) {
    found = layer.form["kind"].get<std::string>();
  }
  std::string known;
  for (const LayerKind& kind : kLayerKinds) {
    if (kind.name == found) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw FormatError(weights.path(), "compression_config.layers." + layer.spec.name,
                    fmt::format("expected a kind among {}, found {}", known, found));
}

}  // namespace

std::span<const LayerKind> layer_kinds() { return kLayerKinds; }

ProjectionPtr load_group(std::span<const LayerSpec> layers, const ModelConfig& config,
                         const Weights& weights) {
  const std::optional<LayerSpec> fused = fused_layer(layers);
  if (fused && config.compressed_layers.contains(fused->name)) {
    return load_group({&*fused, 1}, config, weights);
  }
  std::vector<StoredLayer> stored;
  std::vector<const LayerKind*> kinds;
  for (const LayerSpec& spec : layers) {
    const auto form = config.compressed_layers.find(spec.name);
    stored.push_back(
        {spec, form != config.compressed_layers.end() ? *form : nlohmann::json{{"kind", "dense"}}});
    kinds.push_back(&find_kind(stored.back(), weights));
  }
  std::vector<ProjectionPtr> parts;
  for (size_t begin = 0; begin < stored.size();) {
    size_t end = begin + 1;
    while (end < stored.size() && kinds[end] == kinds[begin]) ++end;
    parts.push_back(kinds[begin]->load(std::span(stored).subspan(begin, end - begin), weights));
    begin = end;
  }
  return concatenate(std::move(parts));
}

}  // namespace schmidt::model
