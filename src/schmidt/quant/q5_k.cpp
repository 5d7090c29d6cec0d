#include "schmidt/quant/q5_k.h"

namespace schmidt::quant {
namespace {

// The codes of a group.
struct Group {
  const uint8_t *bytes, *fifths;
  int shift, bit;

  Group(const BlockQ5_K& block, int group)
      : bytes(block.q + 32 * (group / 2)),
        fifths(block.fifth),
        shift(4 * (group % 2)),
        bit(group) {}
  int operator()(int l) const { return (bytes[l] >> shift & 15) | (fifths[l] >> bit & 1) << 4; }
};

}  // namespace

BlockQ5_K BlockQ5_K::encode(const float* values) {
  const PackedFit fit = fit_packed(values, 31, -0.5F, 15);
  BlockQ5_K block{fit.d, fit.dmin, fit.scales, {}, {}};
  for (int i = 0; i < 128; ++i) {
    const uint8_t* codes = fit.codes + 64 * (i / 32) + i % 32;
    block.q[i] = static_cast<uint8_t>((codes[0] & 15) | (codes[32] & 15) << 4);
  }
  for (int i = 0; i < 256; ++i) {
    block.fifth[i % 32] |= static_cast<uint8_t>(fit.codes[i] >> 4 << (i / 32));
  }
  return block;
}

void BlockQ5_K::decode(float* values) const {
  const float super_scale = d.value();
  const float super_minimum = dmin.value();
  for (int group = 0; group < 8; ++group) {
    const float scale = super_scale * static_cast<float>(scales.scale(group));
    const float minimum = super_minimum * static_cast<float>(scales.minimum(group));
    const Group code(*this, group);
    for (int l = 0; l < 32; ++l) {
      values[32 * group + l] = scale * static_cast<float>(code(l)) - minimum;
    }
  }
}

double BlockQ5_K::dot(const float* x) const {
  double scaled = 0, minima = 0;
  for (int group = 0; group < 8; ++group) {
    const float* part = x + 32 * group;
    scaled += scales.scale(group) * sum_of_products(32, part, Group(*this, group));
    minima += scales.minimum(group) * sum_of(32, part);
  }
  return d.value() * scaled - dmin.value() * minima;
}

}  // namespace schmidt::quant
