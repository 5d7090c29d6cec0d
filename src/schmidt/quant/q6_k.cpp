#include "schmidt/quant/q6_k.h"

#include <cmath>

#include "schmidt/quant/group_fit.h"

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
  float largest = 0;
  for (int g = 0; g < kGroups; ++g) {
    groups[g] = fit_by_scales(values + kGroup * g, kGroup, 32);
    if (std::abs(groups[g].scale) > std::abs(largest)) largest = groups[g].scale;
  }
  BlockQ6_K block{};
  if (std::abs(largest) < 1e-15F) return block;
  const float inverse = -128 / largest;
  block.d = Float16::of(1 / inverse);
  for (int g = 0; g < kGroups; ++g) {
    const int scale = nearest_code(inverse * groups[g].scale, -128, 127);
    block.scales[g] = static_cast<int8_t>(scale);
    const float step = block.d.value() * static_cast<float>(scale);
    const int half = g / 8, part = g / 2 % 4, odd = 16 * (g % 2);
    for (int l = 0; l < kGroup; ++l) {
      const int code = step == 0 ? groups[g].codes[l]
                                 : nearest_code(values[kGroup * g + l] / step, -32, 31) + 32;
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
