#include "schmidt/quant/packed_scales.h"

#include <algorithm>
#include <cmath>

#include "schmidt/quant/block_fit.h"

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
  for (int g = 0; g < kGroups; ++g) {
    groups[g] = fit_group(values + kGroup * g, {most, first, steps, false});
  }
  const BlockFitWithMinima block = fit_block(values, groups, kSteps, most);
  PackedFit fit{block.d, block.dmin, PackedScales::of(block.scales, block.minima), {}};
  std::copy_n(block.codes, kBlockValues, fit.codes);
  return fit;
}

}  // namespace schmidt::quant
