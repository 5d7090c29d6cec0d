#include "schmidt/model/layer_kinds.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/model/factored_projection.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/model/nf4_projection.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/model/sum_projection.h"

namespace schmidt::model {
namespace {

std::vector<const LayerKind*>& table() {
  static std::vector<const LayerKind*> kinds = {&kDenseKind,     &kMpoKind,      &kSumKind,
                                                &kQuantizedKind, &kFactoredKind, &kNf4Kind};
  return kinds;
}

std::string form_place(const std::string& name) { return "compression_config.layers." + name; }

/// The kind of that name, or null.
const LayerKind* kind_named(const std::string& name) {
  const auto found = std::ranges::find(table(), name, &LayerKind::name);
  return found == table().end() ? nullptr : *found;
}

std::string known_kinds() {
  std::vector<std::string_view> known;
  for (const LayerKind* kind : table()) known.push_back(kind->name);
  return fmt::format("{}", fmt::join(known, ", "));
}

const LayerKind& find_kind(const std::string& name, const nlohmann::json& form,
                           const std::filesystem::path& path) {
  std::string found = "nothing";
  if (form.is_object() && form.contains("kind") && form["kind"].is_string()) {
    found = form["kind"].get<std::string>();
  }
  const LayerKind* kind = kind_named(found);
  if (kind != nullptr) return *kind;
  throw FormatError(path, form_place(name),
                    fmt::format("expected a kind among {}, found {}", known_kinds(), found));
}

/// The place of a weight that is not in a file yet.
const std::filesystem::path kMemory = "(memory)";

}  // namespace

std::vector<const LayerKind*> layer_kinds() { return table(); }

void add_layer_kind(const LayerKind& kind) {
  TORCH_CHECK_VALUE(std::ranges::find(table(), kind.name, &LayerKind::name) == table().end(),
                    "[layer_kinds] expected a new name, got ", std::string(kind.name));
  table().push_back(&kind);
}

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
    stored.push_back({spec, form != config.compressed_layers.end()
                                ? *form
                                : nlohmann::json{{"kind", kDenseKind.name}}});
    kinds.push_back(&find_kind(spec.name, stored.back().form, weights.path()));
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

WeightDescription describe_weight(const std::string& name, const nlohmann::json& form,
                                  const TensorHeaders& tensors, const std::filesystem::path& path) {
  const LayerKind& kind = find_kind(name, form, path);
  return kind.describe(io::JsonRecord(form, form_place(name), path), name, tensors);
}

ProjectionPtr load_layer(const StoredLayer& layer, const Weights& weights) {
  return find_kind(layer.spec.name, layer.form, weights.path()).load({&layer, 1}, weights);
}

WeightDescription describe_weight(const std::string& name, const io::JsonRecord& form,
                                  const TensorHeaders& tensors) {
  const std::string found = form.text("kind");
  const LayerKind* kind = kind_named(found);
  if (kind == nullptr) {
    form.fail("kind", fmt::format("expected one of {}, found {}", known_kinds(), found));
  }
  return kind->describe(form, name, tensors);
}

WeightDescription describe_weight(const std::string& name, const StoredWeight& weight) {
  TensorHeaders headers;
  for (const NamedTensor& t : weight.tensors) {
    headers[t.name] = {t.tensor.sizes().vec(), t.tensor.scalar_type(), "", t.tensor.nbytes()};
  }
  return describe_weight(name, weight.form, headers, kMemory);
}

StoredWeight pack_weight(const std::string& name, const StoredWeight& weight,
                         const PackOptions& options) {
  return find_kind(name, weight.form, kMemory).pack(name, weight, options);
}

torch::Tensor unfold_weight(const LayerSpec& layer, const StoredWeight& weight) {
  std::map<std::string, torch::Tensor> tensors;
  torch::ScalarType dtype = torch::kFloat32;
  torch::Device device = torch::kCPU;
  for (const NamedTensor& t : weight.tensors) {
    tensors[t.name] = t.tensor;
    if (!t.tensor.is_floating_point()) continue;
    // In 16 bits products of factors would be rounded once more, and take LibTorch a hundred times
    // as long where the processor does not multiply bfloat16.
    dtype = t.tensor.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    device = t.tensor.device();
  }
  LayerSpec spec = layer;
  spec.bias = false;  // no part of a stored weight
  const StoredLayer stored{std::move(spec), weight.form};
  const Weights weights(std::move(tensors), kMemory, {dtype, device});
  return load_layer(stored, weights)->weight();
}

}  // namespace schmidt::model
