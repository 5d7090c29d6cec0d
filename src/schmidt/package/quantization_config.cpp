#include "schmidt/package/quantization_config.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "schmidt/io/fused_rows.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/nf4_projection.h"
#include "schmidt/model/quantized_projection.h"

namespace schmidt::package {
namespace {

using nlohmann::json;
using nlohmann::literals::operator""_json_pointer;

bool is_linear(const std::string& name) { return !name.ends_with("embed_tokens"); }

/// None where transformers would not read what the layers are: with zero points it takes the format
/// of one layer for all.
std::optional<json> of_compressed_tensors(const json& layers) {
  using Format = std::tuple<int64_t, int64_t, bool>;  // bits, group (0: a row), symmetric
  std::map<Format, std::vector<std::string>> targets;
  const auto is_row = [](const json& form) { return form.at("group") == form.at("shape").at(1); };
  const bool by_rows = std::ranges::all_of(layers, is_row);
  bool symmetric_all = true;
  for (const auto& [name, form] : layers.items()) {
    symmetric_all = symmetric_all && form.at("symmetric").get<bool>();
    targets[{form.at("bits").get<int64_t>(), by_rows ? 0 : form.at("group").get<int64_t>(),
             form.at("symmetric").get<bool>()}]
        .push_back(name);
  }
  if (!symmetric_all && targets.size() > 1) return std::nullopt;
  json groups = json::object();
  for (const auto& [format, names] : targets) {
    const auto& [bits, group, symmetric] = format;
    groups["group_" + std::to_string(groups.size())] = {
        {"targets", names},
        {"weights",
         {{"num_bits", bits},
          {"type", "int"},
          {"symmetric", symmetric},
          {"strategy", by_rows ? "channel" : "group"},
          {"group_size", by_rows ? json() : json(group)},
          {"dynamic", false}}},
        {"input_activations", nullptr},
        {"output_activations", nullptr},
        {"format", "pack-quantized"}};
  }
  json config = {{"quant_method", "compressed-tensors"},
                 {"format", "pack-quantized"},
                 {"quantization_status", "compressed"},
                 {"config_groups", groups},
                 {"ignore", json::array()}};
  if (!symmetric_all) config["dequantize"] = true;
  return config;
}

/// What the layers compute in: the type of the model's own weights.
std::string dtype_of(const json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (config.contains(key) && config[key].is_string()) return config[key].get<std::string>();
  }
  return "float32";
}

json of_bitsandbytes(const json& config, const json& layers, const std::filesystem::path& path) {
  const model::ModelConfig model = model::parse_config(config, path);
  std::set<std::string> dense = {model::output_layer(model).name};
  for (const model::LayerSpec& layer : model::block_layers(model)) dense.insert(layer.name);
  for (int64_t block = 0; block < model.num_layers; ++block) {
    for (const model::RouterSpec& router : model::block_routers(model, block)) {
      dense.insert(router.name);
    }
  }
  bool nested = false;
  for (const auto& [name, form] : layers.items()) {
    dense.erase(name);
    nested = nested || form.contains("nested_block");
  }
  return {{"quant_method", "bitsandbytes"},
          {"load_in_4bit", true},
          {"load_in_8bit", false},
          {"bnb_4bit_quant_type", "nf4"},
          {"bnb_4bit_use_double_quant", nested},
          {"bnb_4bit_compute_dtype", dtype_of(config)},
          {"bnb_4bit_quant_storage", "uint8"},
          {"llm_int8_skip_modules", dense}};
}

}  // namespace

std::optional<json> quantization_config(const json& config, const std::filesystem::path& path) {
  const json layers = config.value(json::json_pointer("/compression_config/layers"), json());
  if (!layers.is_object() || layers.empty()) return std::nullopt;
  if (config.contains("/compression_config/mlp_sizes"_json_pointer)) return std::nullopt;
  if (!io::fused_modules(config).empty()) return std::nullopt;
  std::set<std::string> kinds;
  for (const auto& [name, form] : layers.items()) {
    // Neither knows quantized experts where transformers has one tensor for all of them.
    if (!is_linear(name) || name.find(".experts.") != std::string::npos) return std::nullopt;
    kinds.insert(form.value("kind", ""));
  }
  if (kinds.size() != 1) return std::nullopt;
  if (*kinds.begin() == model::kQuantizedKind.name) {
    // transformers then looks for packed experts even where none are.
    if (model::parse_config(config, path).experts) return std::nullopt;
    return of_compressed_tensors(layers);
  }
  if (*kinds.begin() == model::kNf4Kind.name) return of_bitsandbytes(config, layers, path);
  return std::nullopt;
}

}  // namespace schmidt::package
