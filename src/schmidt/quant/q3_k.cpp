#include "schmidt/quant/q3_k.h"

#include "schmidt/quant/block_fit.h"

namespace schmidt::quant {
namespace {

int scale_of(const BlockQ3_K& block, int group) {
  const int low = block.scales[group % 8] >> (4 * (group / 8)) & 15;
  const int high = block.scales[8 + group % 4] >> (2 * (group / 4)) & 3;
  return (low | high << 4) - 32;
}

// Where a group's low bits and its highest ones begin, and by how much they are shifted.
const uint8_t* low_bits(const BlockQ3_K& block, int group) {
  return block.q + 32 * (group / 8) + 16 * (group % 2);
}
const uint8_t* high_bits(const BlockQ3_K& block, int group) {
  return block.third + 16 * (group % 2);
}
int low_shift(int group) { return 2 * (group / 2 % 4); }
int high_shift(int group) { return group / 2; }

}  // namespace

BlockQ3_K BlockQ3_K::encode(const float* values) {
  constexpr int kGroups = 16, kGroup = 16;
  CentredFit groups[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    groups[g] = fit_by_codes(values + kGroup * g, kGroup, 4);
  }
  const CentredBlockFit fit = fit_block(values, groups, 32, 4);
  BlockQ3_K block{};
  block.d = fit.d;
  for (int g = 0; g < kGroups; ++g) {
    if (fit.largest != 0) {
      const int stored = fit.scales[g] + 32;
      block.scales[g % 8] |= static_cast<uint8_t>((stored & 15) << 4 * (g / 8));
      block.scales[8 + g % 4] |= static_cast<uint8_t>(stored >> 4 << 2 * (g / 4));
    }
    for (int l = 0; l < kGroup; ++l) {
      const int code = fit.codes[kGroup * g + l];
      const int at = 16 * (g % 2) + l;
      block.q[32 * (g / 8) + at] |= static_cast<uint8_t>((code & 3) << low_shift(g));
      block.third[at] |= static_cast<uint8_t>(code >> 2 << high_shift(g));
    }
  }
  return block;
}

void BlockQ3_K::decode(float* values) const {
  const float super_scale = d.value();
  for (int group = 0; group < 16; ++group) {
    const float scale = super_scale * static_cast<float>(scale_of(*this, group));
    const uint8_t* lows = low_bits(*this, group);
    const uint8_t* highs = high_bits(*this, group);
    const int shift = low_shift(group);
    const int bit = high_shift(group);
    for (int l = 0; l < 16; ++l) {
      const int code = (lows[l] >> shift & 3) | (highs[l] >> bit & 1) << 2;
      values[16 * group + l] = scale * static_cast<float>(code - 4);
    }
  }
}

double BlockQ3_K::dot(const float* x) const {
  double sum = 0;
  for (int group = 0; group < 16; ++group) {
    const uint8_t* lows = low_bits(*this, group);
    const uint8_t* highs = high_bits(*this, group);
    sum += scale_of(*this, group) * sum_of_products(16, x + 16 * group, [&](int l) {
             const int high = highs[l] >> high_shift(group) & 1;
             return ((lows[l] >> low_shift(group) & 3) | high << 2) - 4;
           });
  }
  return d.value() * sum;
}

}  // namespace schmidt::quant
