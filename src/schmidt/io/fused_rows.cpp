#include "schmidt/io/fused_rows.h"

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

int64_t number_of(const json& config, const char* key, int64_t fallback) {
  const auto it = config.find(key);
  return it == config.end() || !it->is_number_integer() ? fallback : it->get<int64_t>();
}

void split_tensor(const std::string& name, const std::string& prefix, std::string_view end,
                  const FusedModule& module, std::map<std::string, HfTensor>& tensors,
                  const fs::path& folder) {
  const HfTensor fused = tensors.at(name);
  int64_t shares = 0;
  for (const auto& member : module.members) shares += member.share;
  const int64_t rows = fused.shape.empty() ? 0 : fused.shape.front();
  if (shares < 1 || rows < 1 || rows % shares != 0) {
    throw FormatError(folder, name,
                      fmt::format("expected rows of {} parts of one size, found {}", shares, rows));
  }
  if (fused.scales) {
    throw FormatError(folder, name,
                      "expected a weight without scales, found FP8: layers stored as one are not "
                      "read in it");
  }
  tensors.erase(name);
  const size_t bytes_of_share = fused.bytes.size() / static_cast<size_t>(shares);
  size_t begin = 0;
  for (const auto& member : module.members) {
    HfTensor part = fused;
    part.shape.front() = rows / shares * member.share;
    const size_t bytes = bytes_of_share * static_cast<size_t>(member.share);
    part.bytes = fused.bytes.substr(begin, bytes);
    begin += bytes;
    const std::string own = fmt::format("{}{}{}", prefix, member.name, end);
    if (!tensors.emplace(own, std::move(part)).second) {
      throw FormatError(folder, own, fmt::format("expected no such tensor beside {}", name));
    }
  }
}

}  // namespace

std::vector<FusedModule> fused_modules(const json& config) {
  const auto type = config.find("model_type");
  if (type == config.end() || *type != "phi3") return {};
  const int64_t heads = number_of(config, "num_attention_heads", 0);
  const int64_t kv_heads = number_of(config, "num_key_value_heads", heads);
  // Wrong numbers are refused where the config is parsed.
  if (heads < 1 || kv_heads < 1 || heads > (1 << 28) || kv_heads > heads) return {};
  return {{"qkv_proj", {{"q_proj", heads}, {"k_proj", kv_heads}, {"v_proj", kv_heads}}},
          {"gate_up_proj", {{"gate_proj"}, {"up_proj"}}}};
}

void split_fused_rows(const json& config, std::map<std::string, HfTensor>& tensors,
                      const fs::path& folder) {
  const std::vector<FusedModule> modules = fused_modules(config);
  if (modules.empty()) return;
  const auto compression = config.find("compression_config");
  const bool any =
      compression != config.end() && compression->is_object() && compression->contains("layers");
  const json layers = any ? compression->at("layers") : json::object();
  for (const FusedModule& module : modules) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors) names.push_back(name);
    for (const std::string& name : names) {
      for (const std::string_view end : {".weight", ".bias"}) {
        const std::string leaf = fmt::format(".{}{}", module.name, end);
        if (!name.ends_with(leaf)) continue;
        const std::string layer = name.substr(0, name.size() - end.size());
        if (layers.is_object() && layers.contains(layer)) continue;
        split_tensor(name, layer.substr(0, layer.size() - module.name.size()), end, module, tensors,
                     folder);
      }
    }
  }
}

}  // namespace schmidt::io
