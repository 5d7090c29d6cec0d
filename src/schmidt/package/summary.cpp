#include "schmidt/package/summary.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string_view>
#include <tuple>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/layers.h"

namespace schmidt::package {
namespace {

using nlohmann::literals::operator""_json_pointer;

int64_t product(const std::vector<int64_t>& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

/// "model.layers.3.mlp.up_proj.cores.0" belongs to the compressed layer whose name it begins
/// with, every other tensor to what stands before the last part of its name.
std::string module_of(const std::string& tensor, const nlohmann::json& compressed) {
  for (size_t dot = tensor.rfind('.'); dot != std::string::npos && dot > 0;
       dot = tensor.rfind('.', dot - 1)) {
    if (compressed.contains(tensor.substr(0, dot))) return tensor.substr(0, dot);
  }
  return tensor.substr(0, tensor.rfind('.'));
}

std::string plain_kind(const std::string& name) {
  if (name.ends_with("embed_tokens")) return "embedding";
  if (name.ends_with("norm") || name.ends_with("layernorm")) return "norm";
  if (name.ends_with(".gate") || name.ends_with("_gate")) return "router";
  return "dense";
}

// Embedding, blocks by number and in the order of computation, final norm, head.
std::tuple<int, int64_t, size_t, std::string> model_order(const std::string& name) {
  static constexpr std::string_view kBlocks = "model.layers.";
  if (name.starts_with(kBlocks)) {
    const int64_t block = std::strtoll(name.c_str() + kBlocks.size(), nullptr, 10);
    return {1, block, model::place_in_block(name), name};
  }
  const int place = name.ends_with("embed_tokens") ? 0 : name.ends_with("norm") ? 2 : 3;
  return {place, 0, 0, name};
}

}  // namespace

double ModelSummary::keep() const {
  return dense_parameters == 0
             ? 1.0
             : static_cast<double>(parameters) / static_cast<double>(dense_parameters);
}

double ModelSummary::tensorized_keep() const {
  return tensorized_dense_parameters == 0 ? 1.0
                                          : static_cast<double>(tensorized_parameters) /
                                                static_cast<double>(tensorized_dense_parameters);
}

uint64_t ModelSummary::dense_bytes(int64_t bytes_per_scalar) const {
  return static_cast<uint64_t>(dense_parameters * bytes_per_scalar);
}

namespace {

/// compression_config.layers; empty where the model is not compressed.
nlohmann::json compressed_layers(const nlohmann::json& config, const std::filesystem::path& path) {
  nlohmann::json found = config;
  for (const char* key : {"compression_config", "layers"}) {
    found = found.contains(key) ? nlohmann::json(found.at(key)) : nlohmann::json();
    if (found.is_null()) return nlohmann::json::object();
    if (!found.is_object()) {
      throw FormatError(path, key, fmt::format("expected an object, got {}", found.type_name()));
    }
  }
  return found;
}

/// Parameters of the original's layers of MLPs, by name, where neurons of some were pruned.
std::map<std::string, int64_t> before_pruning(const io::Checkpoint& checkpoint) {
  if (!checkpoint.config().contains("/compression_config/mlp_sizes"_json_pointer)) return {};
  model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  std::ranges::fill(config.mlp_sizes, config.intermediate_size);
  std::map<std::string, int64_t> sizes;
  for (const auto& [layer, members] : model::storable_layers(config)) {
    if (layer.name.find(".mlp.") == std::string::npos) continue;
    sizes[layer.name] = layer.out_features * (layer.in_features + (layer.bias ? 1 : 0));
  }
  return sizes;
}

}  // namespace

ModelSummary summarize(const io::Checkpoint& checkpoint) {
  const nlohmann::json& config = checkpoint.config();
  const std::map<std::string, int64_t> original = before_pruning(checkpoint);
  const nlohmann::json compressed = compressed_layers(config, checkpoint.path());

  std::map<std::string, ModuleSummary> modules;
  for (const auto& [name, info] : checkpoint.tensors()) {
    ModuleSummary& module = modules[module_of(name, compressed)];
    module.bytes += info.bytes;
    if (!isFloatingType(info.dtype)) continue;  // indices
    module.parameters += product(info.shape);
    if (name.ends_with(".weight")) module.shape = info.shape;
    if (name.ends_with(".bias")) module.dense_parameters += product(info.shape);
    if (!name.ends_with(".bias")) module.stored_as = info.stored_as;
  }

  ModelSummary summary;
  for (auto& [name, module] : modules) {
    module.name = name;
    module.kind = plain_kind(name);
    if (const auto form = compressed.find(name); form != compressed.end()) {
      model::WeightDescription weight =
          model::describe_weight(name, *form, checkpoint.tensors(), checkpoint.path());
      module.kind = form->at("kind").get<std::string>();
      module.shape = std::move(weight.shape);
      module.networks = std::move(weight.networks);
      module.label = std::move(weight.label);
      if (weight.parameters) {  // its biases are counted already, as the original's
        module.parameters = *weight.parameters + module.dense_parameters;
        module.stored_as = module.label;
      }
      module.compressed = module.kind != "dense";
      if (module.compressed) {
        summary.tensorized_parameters += module.parameters;
        summary.tensorized_dense_parameters += product(module.shape) + module.dense_parameters;
      }
    }
    module.dense_parameters += product(module.shape);
    if (const auto larger = original.find(name); larger != original.end()) {
      module.dense_parameters = larger->second;
    }
    summary.parameters += module.parameters;
    summary.dense_parameters += module.dense_parameters;
    summary.bytes += module.bytes;
    summary.modules.push_back(std::move(module));
  }
  std::sort(summary.modules.begin(), summary.modules.end(),
            [](const auto& a, const auto& b) { return model_order(a.name) < model_order(b.name); });
  return summary;
}

}  // namespace schmidt::package
