#include "schmidt/compress/summary.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string_view>
#include <tuple>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::compress {
namespace {

int64_t product(const std::vector<int64_t>& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

// "model.layers.3.mlp.up_proj.cores.0" belongs to "model.layers.3.mlp.up_proj".
std::string module_of(const std::string& tensor) {
  const size_t cores = tensor.rfind(".cores.");
  return tensor.substr(0, cores != std::string::npos ? cores : tensor.rfind('.'));
}

std::string plain_kind(const std::string& name) {
  if (name.ends_with("embed_tokens")) return "embedding";
  if (name.ends_with("norm") || name.ends_with("layernorm")) return "norm";
  return "dense";
}

// Embedding, blocks by number and in the order of computation, final norm, head.
std::tuple<int, int64_t, size_t, std::string> model_order(const std::string& name) {
  static constexpr std::string_view kParts[] = {
      "input_layernorm",          "q_proj",    "k_proj",  "v_proj",   "q_norm", "k_norm", "o_proj",
      "post_attention_layernorm", "gate_proj", "up_proj", "down_proj"};
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
    module.parameters += product(info.shape);
    module.bytes += info.bytes;
    if (name.ends_with(".weight")) module.shape = info.shape;
    if (name.ends_with(".bias")) module.dense_parameters += product(info.shape);
    if (!name.ends_with(".bias")) module.stored_as = info.stored_as;
  }

  ModelSummary summary;
  for (auto& [name, module] : modules) {
    module.name = name;
    const auto entry = compressed.find(name);
    try {
      if (entry != compressed.end()) {
        module.kind = entry->at("kind").get<std::string>();
        module.out_dims = entry->at("out_dims").get<std::vector<int64_t>>();
        module.in_dims = entry->at("in_dims").get<std::vector<int64_t>>();
        module.bonds = entry->at("bonds").get<std::vector<int64_t>>();
        module.shape = {product(module.out_dims), product(module.in_dims)};
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

}  // namespace schmidt::compress
