#include "schmidt/quant/q2_k.h"

#include <cmath>

#include "schmidt/quant/block_fit.h"

namespace schmidt::quant {
namespace {

// Where the codes of a group begin, and by how many bits they are shifted.
struct Place {
  const uint8_t* bytes;
  int shift;
};
Place place_of(const BlockQ2_K& block, int group) {
  return {block.q + 32 * (group / 8) + 16 * (group % 2), 2 * (group / 2 % 4)};
}

}  // namespace

BlockQ2_K BlockQ2_K::encode(const float* values) {
  constexpr int kGroups = 16, kGroup = 16;
  MinimumFit groups[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    float weights[kGroup];
    for (int l = 0; l < kGroup; ++l) weights[l] = std::abs(values[kGroup * g + l]);
    groups[g] = fit_with_minimum(values + kGroup * g, weights, kGroup, {3, -0.5F, 15, true});
  }
  const BlockFitWithMinima fit = fit_block(values, groups, 15, 3);
  BlockQ2_K block{};
  block.d = fit.d;
  block.dmin = fit.dmin;
  for (int g = 0; g < kGroups; ++g) {
    block.scale_min[g] = static_cast<uint8_t>(fit.scales[g] | fit.minima[g] << 4);
    for (int l = 0; l < kGroup; ++l) {
      block.q[32 * (g / 8) + 16 * (g % 2) + l] |=
          static_cast<uint8_t>(fit.codes[kGroup * g + l] << 2 * (g / 2 % 4));
    }
  }
  return block;
}

void BlockQ2_K::decode(float* values) const {
  const float super_scale = d.value();
  const float super_minimum = dmin.value();
  for (int group = 0; group < 16; ++group) {
    const float scale = super_scale * static_cast<float>(scale_min[group] & 15);
    const float minimum = super_minimum * static_cast<float>(scale_min[group] >> 4);
    const auto [bytes, shift] = place_of(*this, group);
    for (int l = 0; l < 16; ++l) {
      values[16 * group + l] = scale * static_cast<float>(bytes[l] >> shift & 3) - minimum;
    }
  }
}

double BlockQ2_K::dot(const float* x) const {
  double scaled = 0, minima = 0;
  for (int group = 0; group < 16; ++group) {
    const Place at = place_of(*this, group);
    const float* part = x + 16 * group;
    scaled += (scale_min[group] & 15) *
              sum_of_products(16, part, [&](int l) { return at.bytes[l] >> at.shift & 3; });
    minima += (scale_min[group] >> 4) * sum_of(16, part);
  }
  return d.value() * scaled - dmin.value() * minima;
}

}  // namespace schmidt::quant
