#include "schmidt/io/packed_integers.h"

#include <algorithm>
#include <iterator>
#include <regex>
#include <string_view>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/layer_forms.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

constexpr std::string_view kPacked = ".weight_packed";
constexpr std::string_view kEnds[] = {kPacked, ".weight_scale", ".weight_zero_point",
                                      ".weight_shape"};

/// Whether compression_config has a form for the module, or for the layer that it is a part of:
/// "layer.terms.1.left" of "layer".
bool is_part_described(const json& config, std::string module) {
  for (;;) {
    if (is_described(config, module)) return true;
    const size_t dot = module.rfind('.');
    if (dot == std::string::npos) return false;
    module.resize(dot);
  }
}

bool is_target(const std::string& target, const std::string& module) {
  if (target.starts_with("re:")) {
    try {
      return std::regex_search(module, std::regex(target.substr(3)),
                               std::regex_constants::match_continuous);
    } catch (const std::regex_error&) {
      return false;  // a scheme for nothing
    }
  }
  return target == "Linear" || target == module;
}

}  // namespace

std::map<std::string, HfTensor> take_packed(std::map<std::string, HfTensor>& tensors,
                                            const json& config) {
  std::map<std::string, HfTensor> taken;
  for (auto at = tensors.begin(); at != tensors.end();) {
    const auto next = std::next(at);
    const std::string& name = at->first;
    const auto* end = std::ranges::find_if(kEnds, [&](auto e) { return name.ends_with(e); });
    if (end != std::end(kEnds) &&
        is_part_described(config, name.substr(0, name.size() - end->size()))) {
      taken.insert(tensors.extract(at));
    }
    at = next;
  }
  return taken;
}

void describe_packed(json& config, const std::map<std::string, HfTensor>& tensors,
                     const std::vector<PackedScheme>& schemes,
                     const std::filesystem::path& folder) {
  if (schemes.empty()) return;
  for (const auto& [name, tensor] : tensors) {
    if (!name.ends_with(kPacked)) continue;
    const std::string module = name.substr(0, name.size() - kPacked.size());
    if (is_part_described(config, module)) continue;
    const auto scheme = std::ranges::find_if(schemes, [&](const PackedScheme& s) {
      return std::ranges::any_of(s.targets, [&](const auto& t) { return is_target(t, module); });
    });
    if (scheme == schemes.end() || tensor.shape.size() != 2) {
      throw FormatError(folder, name, "expected a group of quantization_config for this matrix");
    }
    const int64_t columns = tensor.shape[1] * 32 / scheme->bits;
    describe_layer(config, module,
                   {{"kind", "quantized"},
                    {"bits", scheme->bits},
                    {"group", scheme->group > 0 ? scheme->group : columns},
                    {"symmetric", scheme->symmetric},
                    {"shape", {tensor.shape[0], columns}}},
                   folder);
  }
}

}  // namespace schmidt::io
