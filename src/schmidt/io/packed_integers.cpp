#include "schmidt/io/packed_integers.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <regex>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/layer_forms.h"
#include "schmidt/quant/integer_format.h"

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

/// How closely a target names a module: by its name, by an expression, by its class; none: not.
/// The closest counts, of two expressions the first in alphabetical order, as in
/// compressed-tensors.
std::optional<std::pair<int, std::string>> closeness(const std::string& target,
                                                     const std::string& module,
                                                     const std::filesystem::path& folder) {
  if (target == module) return std::pair(0, target);
  if (target == "Linear") return std::pair(2, target);
  if (!target.starts_with("re:")) return std::nullopt;
  try {
    const std::regex expression(target.substr(3));
    const bool matches =
        std::regex_search(module, expression, std::regex_constants::match_continuous);
    return matches ? std::optional(std::pair(1, target)) : std::nullopt;
  } catch (const std::regex_error&) {
    throw FormatError(folder / "config.json", "quantization_config",
                      fmt::format("the expression \"{}\" is of a kind that is not read", target));
  }
}

/// Null where no scheme is for the module.
const PackedScheme* scheme_of(const std::vector<PackedScheme>& schemes, const std::string& module,
                              const std::filesystem::path& folder) {
  const PackedScheme* closest = nullptr;
  std::optional<std::pair<int, std::string>> least;
  for (const PackedScheme& scheme : schemes) {
    for (const std::string& target : scheme.targets) {
      auto found = closeness(target, module, folder);
      if (!found || (least && *least <= *found)) continue;
      least = std::move(found);
      closest = &scheme;
    }
  }
  return closest;
}

/// The columns of a packed matrix, whose last word of a row may have room for more.
int64_t columns_of(const std::map<std::string, HfTensor>& tensors, const std::string& module,
                   int64_t words, int bits, const std::filesystem::path& folder) {
  const auto shape = tensors.find(module + ".weight_shape");
  int64_t said[2] = {};
  if (shape == tensors.end() || shape->second.bytes.size() != sizeof said) return words * 32 / bits;
  std::memcpy(said, shape->second.bytes.data(), sizeof said);
  if (said[1] < 1 || said[1] > words * 32 || quant::packed_words(said[1], bits) != words) {
    throw FormatError(folder, shape->first,
                      fmt::format("expected columns that take {} packed words of {} bits, found {}",
                                  words, bits, said[1]));
  }
  return said[1];
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
    const PackedScheme* const scheme = scheme_of(schemes, module, folder);
    if (scheme == nullptr || tensor.shape.size() != 2) {
      throw FormatError(folder, name, "expected a group of quantization_config for this matrix");
    }
    const int64_t columns = columns_of(tensors, module, tensor.shape[1], scheme->bits, folder);
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
