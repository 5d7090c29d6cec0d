#include "schmidt/plan/preset.h"

#include <array>
#include <cmath>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/named.h"
#include "schmidt/plan/footprint.h"

namespace schmidt::plan {
namespace {

constexpr std::array<Preset, 5> kPresets = {{
    {.name = "original", .keep = 1.0, .mixed_int4 = false, .ignore = "none", .float32 = true},
    {.name = "int8", .keep = 1.0, .mixed_int4 = false, .ignore = "none", .bits = 8},
    {.name = "int4", .keep = 1.0, .mixed_int4 = false, .ignore = "none", .bits = 4},
    {"compactifai-88", 0.307, false, "L7"},
    {"compactifai-93", 0.307, true, "L7"},
}};

}  // namespace

std::span<const Preset> presets() { return kPresets; }

const Preset& find_preset(std::string_view name) { return find_named(kPresets, name, "preset"); }

void check_reach(const Preset& preset, const Outline& model, const std::vector<Layer>& layers,
                 int64_t least) {
  const auto whole = static_cast<double>(model.parameters);
  int64_t reached = model.parameters + least;
  for (const Layer& layer : layers) reached -= layer.numel();
  Footprint at_least{.parameters = reached};
  for (const Layer& layer : model.layers) at_least.dense_layers += layer.numel();
  for (const Layer& layer : layers) at_least.dense_layers -= layer.numel();
  Footprint asked = at_least;
  asked.parameters = std::llround(preset.keep * whole);
  const auto megabytes = [&](const Footprint& f) {
    return 1e-6 * (preset.mixed_int4 ? f.mixed_bytes() : f.bytes(2));
  };
  const auto nearest = static_cast<double>(reached);
  TORCH_CHECK_VALUE(
      nearest <= preset.keep * whole, "[preset] ",
      fmt::format("{} asks for {:.1f} % of the parameters ({:.1f} MB, {}); with {}, embedding and "
                  "norms left alone this model keeps at least {:.1f} % ({:.1f} MB): a share of "
                  "{:.3f} is the nearest",
                  preset.name, 100 * preset.keep, megabytes(asked),
                  preset.mixed_int4 ? "dense block layers in int4" : "float16", preset.ignore,
                  100 * nearest / whole, megabytes(at_least),
                  std::ceil(1000 * nearest / whole) / 1000));
}

}  // namespace schmidt::plan
