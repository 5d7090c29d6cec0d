#include "schmidt/quant/q8_0.h"

#include <cmath>

namespace schmidt::quant {

BlockQ8_0 BlockQ8_0::encode(const float* values) {
  const float scale = std::abs(extreme_of_32(values)) / 127;
  const float inverse = inverse_of(scale);
  BlockQ8_0 block;
  block.d = Float16::of(scale);
  for (int i = 0; i < 32; ++i) {
    const float scaled = values[i] * inverse;
    const int code = truncated_code(std::round(std::abs(scaled)), 127);
    block.q[i] = static_cast<int8_t>(scaled < 0 ? -code : code);
  }
  return block;
}

void BlockQ8_0::decode(float* values) const {
  const float scale = d.value();
  for (int j = 0; j < 32; ++j) values[j] = scale * static_cast<float>(q[j]);
}

double BlockQ8_0::dot(const float* x) const {
  return d.value() * sum_of_products(32, x, [&](int i) { return q[i]; });
}

}  // namespace schmidt::quant
