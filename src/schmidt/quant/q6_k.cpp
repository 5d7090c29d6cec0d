#include "schmidt/quant/q6_k.h"

#include <cmath>

#include "schmidt/quant/block_fit.h"

namespace schmidt::quant {
namespace {

// The codes of a group, less 32.
struct Group {
  const uint8_t *lows, *highs;
  int low_shift, high_shift;

  Group(const BlockQ6_K& block, int group) {
    const int half = group / 8, part = group / 2 % 4, odd = 16 * (group % 2);
    lows = block.low + 64 * half + 32 * (part % 2) + odd;
    highs = block.high + 32 * half + odd;
    low_shift = 4 * (part / 2);
    high_shift = 2 * part;
  }
  int operator()(int l) const {
    return ((lows[l] >> low_shift & 15) | (highs[l] >> high_shift & 3) << 4) - 32;
  }
};

}  // namespace

BlockQ6_K BlockQ6_K::encode(const float* values) {
  constexpr int kGroups = 16, kGroup = 16;
  CentredFit groups[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    groups[g] = fit_by_scales(values + kGroup * g, kGroup, 32);
  }
  const CentredBlockFit fit = fit_block(values, groups, 128, 32);
  BlockQ6_K block{};
  if (std::abs(fit.largest) < 1e-15F) return block;
  block.d = fit.d;
  for (int g = 0; g < kGroups; ++g) {
    block.scales[g] = static_cast<int8_t>(fit.scales[g]);
    const int half = g / 8, part = g / 2 % 4, odd = 16 * (g % 2);
    for (int l = 0; l < kGroup; ++l) {
      const int code = fit.codes[kGroup * g + l];
      block.low[64 * half + 32 * (part % 2) + odd + l] |=
          static_cast<uint8_t>((code & 15) << 4 * (part / 2));
      block.high[32 * half + odd + l] |= static_cast<uint8_t>(code >> 4 << 2 * part);
    }
  }
  return block;
}

void BlockQ6_K::decode(float* values) const {
  const float super_scale = d.value();
  for (int group = 0; group < 16; ++group) {
    const float scale = super_scale * static_cast<float>(scales[group]);
    const Group code(*this, group);
    for (int l = 0; l < 16; ++l) values[16 * group + l] = scale * static_cast<float>(code(l));
  }
}

double BlockQ6_K::dot(const float* x) const {
  double sum = 0;
  for (int group = 0; group < 16; ++group) {
    sum += scales[group] * sum_of_products(16, x + 16 * group, Group(*this, group));
  }
  return d.value() * sum;
}

}  // namespace schmidt::quant
