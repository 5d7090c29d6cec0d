#include "schmidt/package/quantization_config.h"

#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace schmidt::package {

using nlohmann::json;

namespace {

bool is_linear(const std::string& name) { return !name.ends_with("embed_tokens"); }

}  // namespace

std::optional<json> quantization_config(const json& layers) {
  using Format = std::tuple<int64_t, int64_t, bool>;  // bits, group, symmetric
  if (!layers.is_object() || layers.empty()) return std::nullopt;
  std::map<Format, std::vector<std::string>> targets;
  bool symmetric_all = true;
  for (const auto& [name, form] : layers.items()) {
    if (form.value("kind", "") != "quantized" || !is_linear(name)) return std::nullopt;
    symmetric_all = symmetric_all && form.at("symmetric").get<bool>();
    targets[{form.at("bits").get<int64_t>(), form.at("group").get<int64_t>(),
             form.at("symmetric").get<bool>()}]
        .push_back(name);
  }
  json groups = json::object();
  for (const auto& [format, names] : targets) {
    const auto& [bits, group, symmetric] = format;
    groups["group_" + std::to_string(groups.size())] = {{"targets", names},
                                                        {"weights",
                                                         {{"num_bits", bits},
                                                          {"type", "int"},
                                                          {"symmetric", symmetric},
                                                          {"strategy", "group"},
                                                          {"group_size", group},
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

}  // namespace schmidt::package
