#include "schmidt/plan/layers.h"

#include <algorithm>
#include <array>
#include <regex>
#include <string_view>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include "schmidt/base/format_error.h"

namespace schmidt::plan {
namespace {

constexpr std::array<std::string_view, 7> kKinds = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

/// Layers that become one when they share a basis, under the name that other
/// programs give the stacked layer.
struct Fused {
  std::string_view name;
  std::vector<int> kinds;
};

const std::array<Fused, 2> kFused = {{
    {"self_attn.qkv_proj", {1, 2, 3}},
    {"mlp.gate_up_proj", {5, 6}},
}};

std::string layer_name(int64_t block, size_t kind) {
  return fmt::format("model.layers.{}.{}", block, kKinds[kind]);
}

bool ends_in_whole_parts(const std::string& name, const std::string& pattern) {
  return name == pattern || name.ends_with("." + pattern);
}

std::regex compile(const std::string& source) {
  try {
    return std::regex(source);
  } catch (const std::regex_error& e) {
    TORCH_CHECK_VALUE(false, "[layers] expected a regular expression, got \"", source,
                      "\": ", e.what());
  }
}

}  // namespace

std::string Layer::label() const {
  std::string label;
  for (const int kind : kinds) label += fmt::format("{}L{}", label.empty() ? "" : "+", kind);
  return label;
}

model::Group Layer::group() const {
  switch (kinds.front()) {
    case 1:
    case 2:
    case 3:
      return model::Group::kQkv;
    case 4:
      return model::Group::kOut;
    case 5:
    case 6:
      return model::Group::kGateUp;
    default:
      return model::Group::kDown;
  }
}

std::vector<Layer> dense_layers(const io::Checkpoint& checkpoint) {
  std::vector<Layer> layers;
  const auto& tensors = checkpoint.tensors();
  const int64_t blocks = checkpoint.config().value("num_hidden_layers", int64_t{0});
  for (int64_t block = 0; block < blocks; ++block) {
    for (size_t k = 0; k < kKinds.size(); ++k) {
      const std::string name = layer_name(block, k);
      const auto found = tensors.find(name + ".weight");
      if (found == tensors.end() || found->second.shape.size() != 2) continue;
      layers.push_back({name,
                        block,
                        {static_cast<int>(k) + 1},
                        {name},
                        found->second.shape[0],
                        found->second.shape[1]});
    }
  }
  return layers;
}

std::vector<Layer> layers_of(const model::ModelConfig& config) {
  std::vector<Layer> layers;
  for (const model::LayerSpec& spec : model::block_layers(config)) {
    const auto place = static_cast<int64_t>(layers.size() % kKinds.size());
    layers.push_back({spec.name,
                      static_cast<int64_t>(layers.size() / kKinds.size()),
                      {static_cast<int>(place) + 1},
                      {spec.name},
                      spec.out_features,
                      spec.in_features});
  }
  return layers;
}

std::vector<Layer> share_inputs(const std::vector<Layer>& layers) {
  std::vector<Layer> shared;
  for (size_t i = 0; i < layers.size();) {
    const auto fuses = [&](const Fused& fused) {
      if (i + fused.kinds.size() > layers.size()) return false;
      for (size_t k = 0; k < fused.kinds.size(); ++k) {
        const Layer& next = layers[i + k];
        if (next.block != layers[i].block || next.kinds != std::vector{fused.kinds[k]})
          return false;
      }
      return true;
    };
    const auto fused = std::find_if(kFused.begin(), kFused.end(), fuses);
    if (fused == kFused.end()) {
      shared.push_back(layers[i++]);
      continue;
    }
    Layer stack{fmt::format("model.layers.{}.{}", layers[i].block, fused->name),
                layers[i].block,
                fused->kinds,
                {},
                0,
                layers[i].cols};
    for (size_t k = 0; k < fused->kinds.size(); ++k, ++i) {
      stack.members.push_back(layers[i].name);
      stack.rows += layers[i].rows;
    }
    shared.push_back(std::move(stack));
  }
  return shared;
}

torch::Tensor load_weight(const io::Checkpoint& checkpoint, const Layer& layer) {
  std::vector<torch::Tensor> parts;
  for (const std::string& member : layer.members) {
    const std::string name = member + ".weight";
    parts.push_back(checkpoint.load(name));
    if (!torch::isfinite(parts.back()).all().item<bool>()) {
      throw FormatError(checkpoint.path(), name, "holds NaN or infinite weights");
    }
  }
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

bool matches(const std::string& pattern, const Layer& layer) {
  if (pattern.starts_with("re:")) {
    return std::regex_search(layer.name, compile(pattern.substr(3)),
                             std::regex_constants::match_continuous);
  }
  return pattern == layer.label() || ends_in_whole_parts(layer.name, pattern) ||
         ::fnmatch(pattern.c_str(), layer.name.c_str(), 0) == 0;
}

void check_patterns(std::string_view option, const std::vector<std::string>& patterns,
                    const std::vector<Layer>& layers) {
  for (const std::string& pattern : patterns) {
    TORCH_CHECK_VALUE(
        pattern == "none" ||
            std::ranges::any_of(layers, [&](const Layer& l) { return matches(pattern, l); }),
        "[", option, "] no dense layer matches \"", pattern,
        "\"; expected a name such as model.layers.0.self_attn.q_proj, its end, L1 to L7, or "
        "re:...");
  }
}

std::vector<Layer> select_layers(const std::vector<Layer>& layers,
                                 const LayerSelection& selection) {
  const auto any = [](const std::vector<std::string>& patterns, const Layer& layer) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](const std::string& pattern) { return matches(pattern, layer); });
  };
  check_patterns("layers", selection.include, layers);
  std::vector<Layer> selected;
  for (const Layer& layer : layers) {
    if (!selection.include.empty() && !any(selection.include, layer)) continue;
    if (any(selection.ignore, layer)) continue;
    selected.push_back(layer);
  }
  TORCH_CHECK_VALUE(!selected.empty(), "[layers] nothing is left to compress: ", layers.size(),
                    " dense layers in the model, all outside the selection or ignored (",
                    fmt::format("{}", fmt::join(selection.ignore, ", ")), ")");
  return selected;
}

}  // namespace schmidt::plan
