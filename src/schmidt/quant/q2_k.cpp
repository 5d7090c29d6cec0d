#include "schmidt/quant/q2_k.h"

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
