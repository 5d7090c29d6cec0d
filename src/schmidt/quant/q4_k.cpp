#include "schmidt/quant/q4_k.h"

namespace schmidt::quant {

BlockQ4_K BlockQ4_K::encode(const float* values) {
  const PackedFit fit = fit_packed(values, 15, -1.0F, 20);
  BlockQ4_K block{fit.d, fit.dmin, fit.scales, {}};
  for (int i = 0; i < 128; ++i) {
    const uint8_t* codes = fit.codes + 64 * (i / 32) + i % 32;
    block.q[i] = static_cast<uint8_t>(codes[0] | codes[32] << 4);
  }
  return block;
}

void BlockQ4_K::decode(float* values) const {
  const float super_scale = d.value();
  const float super_minimum = dmin.value();
  for (int group = 0; group < 8; ++group) {
    const float scale = super_scale * static_cast<float>(scales.scale(group));
    const float minimum = super_minimum * static_cast<float>(scales.minimum(group));
    const uint8_t* bytes = q + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int l = 0; l < 32; ++l) {
      values[32 * group + l] = scale * static_cast<float>(bytes[l] >> shift & 15) - minimum;
    }
  }
}

double BlockQ4_K::dot(const float* x) const {
  double scaled = 0, minima = 0;
  for (int group = 0; group < 8; ++group) {
    const uint8_t* bytes = q + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    const float* part = x + 32 * group;
    scaled += scales.scale(group) *
              sum_of_products(32, part, [&](int l) { return bytes[l] >> shift & 15; });
    minima += scales.minimum(group) * sum_of(32, part);
  }
  return d.value() * scaled - dmin.value() * minima;
}

}  // namespace schmidt::quant
