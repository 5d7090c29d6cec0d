#include "schmidt/quant/packed_scales.h"

#include <algorithm>
#include <cmath>

#include "schmidt/quant/group_fit.h"

namespace schmidt::quant {
namespace {

constexpr int kGroups = 8, kGroup = 32, kSteps = 63;

MinimumFit fit_group(const float* values, const MinimumSearch& search) {
  float squares = 0;
  for (int i = 0; i < kGroup; ++i) squares += values[i] * values[i];
  const float size = std::sqrt(squares / kGroup);
  float weights[kGroup];
  for (int i = 0; i < kGroup; ++i) weights[i] = size + std::abs(values[i]);
  return fit_with_minimum(values, weights, kGroup, search);
}

}  // namespace

PackedScales PackedScales::of(const int* scales, const int* minima) {
  PackedScales packed{};
  for (int i = 0; i < 4; ++i) {
    packed.s[i] = static_cast<uint8_t>(scales[i] | scales[i + 4] >> 4 << 6);
    packed.s[i + 4] = static_cast<uint8_t>(minima[i] | minima[i + 4] >> 4 << 6);
    packed.s[i + 8] = static_cast<uint8_t>((scales[i + 4] & 15) | (minima[i + 4] & 15) << 4);
  }
  return packed;
}

PackedFit fit_packed(const float* values, int most, float first, int steps) {
  MinimumFit groups[kGroups];
  float largest_scale = 0, largest_minimum = 0;
  for (int g = 0; g < kGroups; ++g) {
    groups[g] = fit_group(values + kGroup * g, {most, first, steps, false});
    largest_scale = std::max(largest_scale, groups[g].scale);
    largest_minimum = std::max(largest_minimum, groups[g].minimum);
  }
  int scales[kGroups], minima[kGroups];
  const float per_scale = steps_of(kSteps, largest_scale);
  const float per_minimum = steps_of(kSteps, largest_minimum);
  for (int g = 0; g < kGroups; ++g) {
    scales[g] = nearest_code(per_scale * groups[g].scale, 0, kSteps);
    minima[g] = nearest_code(per_minimum * groups[g].minimum, 0, kSteps);
  }
  PackedFit fit;
  fit.d = Float16::of(largest_scale / kSteps);
  fit.dmin = Float16::of(largest_minimum / kSteps);
  fit.scales = PackedScales::of(scales, minima);
  for (int g = 0; g < kGroups; ++g) {
    const float scale = fit.d.value() * static_cast<float>(scales[g]);
    const float minimum = fit.dmin.value() * static_cast<float>(minima[g]);
    for (int l = 0; l < kGroup; ++l) {
      const int i = kGroup * g + l;
      fit.codes[i] =
          scale == 0 ? groups[g].codes[l]
                     : static_cast<uint8_t>(nearest_code((values[i] + minimum) / scale, 0, most));
    }
  }
  return fit;
}

}  // namespace schmidt::quant
