#include "schmidt/plan/layers.h"

#include <algorithm>
#include <regex>
#include <set>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/model/layer_kinds.h"

namespace schmidt::plan {
namespace {

bool ends_in_whole_parts(const std::string& name, const std::string& pattern) {
  return name == pattern || name.ends_with("." + pattern);
}

/// Of the paper's numbers of layers, that of a group's first.
int first_number(model::Group group) {
  switch (group.kind) {
    case model::Group::kQkv:
      return 1;
    case model::Group::kOut:
      return 4;
    case model::Group::kGateUp:
      return 5;
    case model::Group::kDown:
      return 7;
  }
  TORCH_INTERNAL_ASSERT(false, "unknown group of layers");
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
  for (const int number : paper_numbers)
    label += fmt::format("{}L{}", label.empty() ? "" : "+", number);
  return label;
}

model::Group Layer::group() const {
  switch (paper_numbers.front()) {
    case 1:
    case 2:
    case 3:
      return model::Group::kQkv;
    case 4:
      return model::Group::kOut;
    case 5:
    case 6:
      return {model::Group::kGateUp, expert};
    default:
      return {model::Group::kDown, expert};
  }
}

std::tuple<int64_t, std::optional<int64_t>, std::vector<int>> place_in_model(const Layer& layer) {
  return {layer.block, layer.expert, layer.paper_numbers};
}

std::vector<Layer> dense_layers(const io::Checkpoint& checkpoint) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  std::set<std::string> compressed;
  for (const auto& [name, form] : config.compressed_layers.items()) compressed.insert(name);
  std::vector<Layer> layers = layers_of(config);
  for (const Layer& shared : share_inputs(layers)) {
    if (compressed.contains(shared.name)) {
      compressed.insert(shared.members.begin(), shared.members.end());
    }
  }
  std::erase_if(layers, [&](const Layer& layer) { return compressed.contains(layer.name); });
  return layers;
}

std::vector<Layer> dense_vocabulary(const model::ModelConfig& config) {
  std::vector<model::LayerSpec> specs = {model::embedding_layer(config)};
  if (!model::has_tied_head(config)) specs.push_back(model::output_layer(config));
  std::vector<Layer> layers;
  for (const model::LayerSpec& spec : specs) {
    if (config.compressed_layers.contains(spec.name)) continue;
    layers.push_back({spec.name, -1, {}, {spec.name}, spec.out_features, spec.in_features});
  }
  return layers;
}

std::vector<Layer> layers_of(const model::ModelConfig& config) {
  std::vector<Layer> layers;
  for (int64_t block = 0; block < config.num_layers; ++block) {
    for (const model::Group group : model::block_groups(config, block)) {
      int number = first_number(group);
      for (const model::LayerSpec& spec : model::group_layers(config, block, group)) {
        layers.push_back({spec.name,
                          block,
                          {number++},
                          {spec.name},
                          spec.out_features,
                          spec.in_features,
                          group.expert});
      }
    }
  }
  return layers;
}

std::vector<Layer> share_inputs(const std::vector<Layer>& layers) {
  std::vector<Layer> shared;
  for (size_t begin = 0; begin < layers.size();) {
    size_t end = begin;
    std::vector<model::LayerSpec> members;
    while (end < layers.size() && layers[end].block == layers[begin].block &&
           layers[end].group() == layers[begin].group()) {
      members.push_back({layers[end].name, layers[end].rows, layers[end].cols});
      ++end;
    }
    const auto fused = model::fused_layer(members);
    if (!fused || members.size() != model::members_of(layers[begin].group())) {
      shared.insert(shared.end(), layers.begin() + static_cast<ptrdiff_t>(begin),
                    layers.begin() + static_cast<ptrdiff_t>(end));
    } else {
      Layer stack{fused->name,        layers[begin].block, {}, {}, fused->out_features,
                  fused->in_features, layers[begin].expert};
      for (; begin < end; ++begin) {
        stack.paper_numbers.push_back(layers[begin].paper_numbers.front());
        stack.members.push_back(layers[begin].name);
      }
      shared.push_back(std::move(stack));
    }
    begin = end;
  }
  return shared;
}

namespace {

/// A weight that is stored in another form than dense.
torch::Tensor unfolded(const io::Checkpoint& checkpoint, const Layer& layer,
                       const std::string& name) {
  const auto config = model::parse_config(checkpoint.config(), checkpoint.path());
  const auto form = config.compressed_layers.find(name);
  TORCH_CHECK_VALUE(form != config.compressed_layers.end(), "[layers] expected a weight of ", name,
                    " in ", checkpoint.path().string(), ", got none");
  const model::Weights weights(checkpoint, {.dtype = torch::kFloat32});
  return model::load_layer({{name, layer.rows, layer.cols}, *form}, weights)->weight();
}

}  // namespace

torch::Tensor load_weight(const io::Checkpoint& checkpoint, const Layer& layer) {
  std::vector<torch::Tensor> parts;
  for (const std::string& member : layer.members) {
    const std::string name = member + ".weight";
    if (layer.members.size() == 1 && !checkpoint.tensors().contains(name)) {
      return unfolded(checkpoint, layer, member);
    }
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
