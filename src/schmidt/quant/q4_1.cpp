#include "schmidt/quant/q4_1.h"

namespace schmidt::quant {

BlockQ4_1 BlockQ4_1::encode(const float* values) {
  const auto [low, high] = range_of_32(values);
  const float scale = (high - low) / 15;
  const float inverse = inverse_of(scale);
  const auto code = [&, minimum = low](int i) {
    return truncated_code((values[i] - minimum) * inverse + 0.5F, 15);
  };
  BlockQ4_1 block;
  block.d = Float16::of(scale);
  block.m = Float16::of(low);
  for (int j = 0; j < 16; ++j) {
    block.low_high[j] = static_cast<uint8_t>(code(j) | code(j + 16) << 4);
  }
  return block;
}

void BlockQ4_1::decode(float* values) const {
  const float scale = d.value();
  const float minimum = m.value();
  for (int j = 0; j < 16; ++j) {
    values[j] = scale * static_cast<float>(low_high[j] & 15) + minimum;
    values[j + 16] = scale * static_cast<float>(low_high[j] >> 4) + minimum;
  }
}

double BlockQ4_1::dot(const float* x) const {
  return d.value() * (sum_of_products(16, x, [&](int j) { return low_high[j] & 15; }) +
                      sum_of_products(16, x + 16, [&](int j) { return low_high[j] >> 4; })) +
         m.value() * sum_of(32, x);
}

}  // namespace schmidt::quant
