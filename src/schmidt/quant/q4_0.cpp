#include "schmidt/quant/q4_0.h"

namespace schmidt::quant {

BlockQ4_0 BlockQ4_0::encode(const float* values) {
  const float scale = extreme_of_32(values) / -8;
  const float inverse = inverse_of(scale);
  const auto code = [&](int i) { return truncated_code(values[i] * inverse + 8.5F, 15); };
  BlockQ4_0 block;
  block.d = Float16::of(scale);
  for (int j = 0; j < 16; ++j) {
    block.low_high[j] = static_cast<uint8_t>(code(j) | code(j + 16) << 4);
  }
  return block;
}

void BlockQ4_0::decode(float* values) const {
  const float scale = d.value();
  for (int j = 0; j < 16; ++j) {
    values[j] = scale * static_cast<float>((low_high[j] & 15) - 8);
    values[j + 16] = scale * static_cast<float>((low_high[j] >> 4) - 8);
  }
}

double BlockQ4_0::dot(const float* x) const {
  return d.value() * (sum_of_products(16, x, [&](int j) { return (low_high[j] & 15) - 8; }) +
                      sum_of_products(16, x + 16, [&](int j) { return (low_high[j] >> 4) - 8; }));
}

}  // namespace schmidt::quant
