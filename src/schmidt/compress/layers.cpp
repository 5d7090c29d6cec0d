#include "schmidt/compress/layers.h"

#include <algorithm>
#include <array>
#include <regex>
#include <string_view>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

namespace schmidt::compress {
namespace {

constexpr std::array<std::string_view, 7> kKinds = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

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

std::vector<Layer> dense_layers(const io::Checkpoint& checkpoint) {
  std::vector<Layer> layers;
  const auto& tensors = checkpoint.tensors();
  const int64_t blocks = checkpoint.config().value("num_hidden_layers", int64_t{0});
  for (int64_t block = 0; block < blocks; ++block) {
    for (size_t k = 0; k < kKinds.size(); ++k) {
      std::string name = fmt::format("model.layers.{}.{}", block, kKinds[k]);
      const auto found = tensors.find(name + ".weight");
      if (found == tensors.end() || found->second.shape.size() != 2) continue;
      layers.push_back({std::move(name), block, static_cast<int>(k) + 1, found->second.shape[0],
                        found->second.shape[1]});
    }
  }
  return layers;
}

bool matches(const std::string& pattern, const Layer& layer) {
  if (pattern.starts_with("re:")) {
    return std::regex_search(layer.name, compile(pattern.substr(3)),
                             std::regex_constants::match_continuous);
  }
  return pattern == layer.label() || ends_in_whole_parts(layer.name, pattern) ||
         ::fnmatch(pattern.c_str(), layer.name.c_str(), 0) == 0;
}

std::vector<Layer> select_layers(const std::vector<Layer>& layers,
                                 const LayerSelection& selection) {
  const auto any = [](const std::vector<std::string>& patterns, const Layer& layer) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](const std::string& pattern) { return matches(pattern, layer); });
  };
  for (const std::string& pattern : selection.include) {
    TORCH_CHECK_VALUE(std::any_of(layers.begin(), layers.end(),
                                  [&](const Layer& l) { return matches(pattern, l); }),
                      "[layers] no dense layer matches \"", pattern,
                      "\"; expected a name such as model.layers.0.self_attn.q_proj, its end, L1 to "
                      "L7, or re:...");
  }
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

}  // namespace schmidt::compress
