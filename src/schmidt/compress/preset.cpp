#include "schmidt/compress/preset.h"

#include <array>
#include <cmath>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/named.h"

namespace schmidt::compress {
namespace {

constexpr std::array<Preset, 2> kPresets = {{
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
  const auto nearest = static_cast<double>(reached);
  TORCH_CHECK_VALUE(
      nearest <= preset.keep * whole, "[preset] ",
      fmt::format("{} asks for {:.1f} % of the parameters ({:.1f} MB in float16); with {}, "
                  "embedding and norms left alone this model keeps at least {:.1f} % ({:.1f} MB): "
                  "--keep {:.3f} is the nearest",
                  preset.name, 100 * preset.keep, 2e-6 * preset.keep * whole, preset.ignore,
                  100 * nearest / whole, 2e-6 * nearest, std::ceil(1000 * nearest / whole) / 1000));
}

}  // namespace schmidt::compress
