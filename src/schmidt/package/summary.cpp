#include "schmidt/package/summary.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string_view>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"

namespace schmidt::package {
namespace {

int64_t product(const std::vector<int64_t>& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

// "model.layers.3.mlp.up_proj.terms.1.cores.0" belongs to "model.layers.3.mlp.up_proj".
std::string module_of(const std::string& tensor) {
  for (const char* part : {".terms.", ".cores.", ".pivots."}) {
    const size_t begin = tensor.rfind(part);
    if (begin != std::string::npos) return tensor.substr(0, begin);
  }
  return tensor.substr(0, tensor.rfind('.'));
}

bool holds_pivots(const std::string& tensor) { return tensor.find(".pivots.") != tensor.npos; }

NetworkSummary network_of(const nlohmann::json& form) {
  return {form.at("out_dims").get<std::vector<int64_t>>(),
          form.at("in_dims").get<std::vector<int64_t>>(),
          form.at("bonds").get<std::vector<int64_t>>(), form.contains("gauge")};
}

std::vector<NetworkSummary> networks_of(const nlohmann::json& form) {
  if (!form.contains("terms")) return {network_of(form)};
  std::vector<NetworkSummary> networks;
  for (const nlohmann::json& term : form.at("terms")) networks.push_back(network_of(term));
  return networks;
}

std::string joined(const ModuleSummary& module, std::string (*text)(const NetworkSummary&)) {
  std::vector<std::string> terms;
  for (const NetworkSummary& network : module.networks) terms.push_back(text(network));
  return fmt::format("{}", fmt::join(terms, " + "));
}

std::string plain_kind(const std::string& name) {
  if (name.ends_with("embed_tokens")) return "embedding";
  if (name.ends_with("norm") || name.ends_with("layernorm")) return "norm";
  return "dense";
}

// Embedding, blocks by number and in the order of computation, final norm, head.
std::tuple<int, int64_t, size_t, std::string> model_order(const std::string& name) {
  static constexpr std::string_view kParts[] = {
      "input_layernorm", "qkv_proj",  "q_proj",
      "k_proj",          "v_proj",    "q_norm",
      "k_norm",          "o_proj",    "post_attention_layernorm",
      "gate_up_proj",    "gate_proj", "up_proj",
      "down_proj"};
  static constexpr std::string_view kBlocks = "model.layers.";
  if (name.starts_with(kBlocks)) {
    const int64_t block = std::strtoll(name.c_str() + kBlocks.size(), nullptr, 10);
    const auto* part = std::find_if(std::begin(kParts), std::end(kParts),
                                    [&](std::string_view p) { return name.ends_with(p); });
    return {1, block, static_cast<size_t>(part - std::begin(kParts)), name};
  }
  const int place = name.ends_with("embed_tokens") ? 0 : name.ends_with("norm") ? 2 : 3;
  return {place, 0, 0, name};
}

}  // namespace

std::string sites_text(const ModuleSummary& module) {
  return joined(module, [](const NetworkSummary& network) {
    return fmt::format("{}; {}", fmt::join(network.out_dims, " x "),
                       fmt::join(network.in_dims, " x "));
  });
}

std::string bonds_text(const ModuleSummary& module) {
  return joined(module, [](const NetworkSummary& network) {
    return fmt::format("{}", fmt::join(network.bonds, " "));
  });
}

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

ModelSummary summarize(const io::Checkpoint& checkpoint) {
  const nlohmann::json& config = checkpoint.config();
  const bool tied = config.value("tie_word_embeddings", false);
  const nlohmann::json compressed = config.value("compression_config", nlohmann::json::object())
                                        .value("layers", nlohmann::json::object());

  std::map<std::string, ModuleSummary> modules;
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (tied && name == "lm_head.weight") continue;
    ModuleSummary& module = modules[module_of(name)];
    module.bytes += info.bytes;
    if (holds_pivots(name)) continue;
    module.parameters += product(info.shape);
    if (name.ends_with(".weight")) module.shape = info.shape;
    if (name.ends_with(".bias")) module.dense_parameters += product(info.shape);
    if (!name.ends_with(".bias")) module.stored_as = info.stored_as;
  }

  ModelSummary summary;
  for (auto& [name, module] : modules) {
    module.name = name;
    const auto entry = compressed.find(name);
    try {
      const bool networks = entry != compressed.end() && entry->at("kind") != "dense";
      if (networks) {
        module.kind = entry->at("kind").get<std::string>();
        module.networks = networks_of(*entry);
        if (module.networks.empty()) {
          throw FormatError(checkpoint.path(), "compression_config.layers." + name + ".terms",
                            "expected two terms or more, found 0");
        }
        const NetworkSummary& first = module.networks.front();
        module.shape = {product(first.out_dims), product(first.in_dims)};
        summary.tensorized_parameters += module.parameters;
        summary.tensorized_dense_parameters += product(module.shape) + module.dense_parameters;
      } else {
        module.kind = plain_kind(name);
      }
    } catch (const nlohmann::json::exception& e) {
      throw FormatError(checkpoint.path(), "compression_config.layers." + name, e.what());
    }
    module.dense_parameters += product(module.shape);
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
