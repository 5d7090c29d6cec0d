#include "schmidt/quant/q5_1.h"

namespace schmidt::quant {

BlockQ5_1 BlockQ5_1::encode(const float* values) {
  const auto [least, most] = range_of_32(values);
  const float scale = (most - least) / 31;
  const float inverse = inverse_of(scale);
  const auto code_of = [&, minimum = least](int i) {
    return truncated_code((values[i] - minimum) * inverse + 0.5F, 31);
  };
  BlockQ5_1 block;
  block.d = Float16::of(scale);
  block.m = Float16::of(least);
  uint32_t bits = 0;
  for (int j = 0; j < 16; ++j) {
    const int low = code_of(j), high = code_of(j + 16);
    block.low_high[j] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
    bits |= static_cast<uint32_t>(low >> 4) << j | static_cast<uint32_t>(high >> 4) << (j + 16);
  }
  block.fifth = Bits32::of(bits);
  return block;
}

void BlockQ5_1::decode(float* values) const {
  const float scale = d.value();
  const float minimum = m.value();
  const uint32_t bits = fifth.value();
  for (int j = 0; j < 16; ++j) {
    const int low = (low_high[j] & 15) | static_cast<int>((bits >> j & 1) << 4);
    const int high = (low_high[j] >> 4) | static_cast<int>((bits >> (j + 16) & 1) << 4);
    values[j] = scale * static_cast<float>(low) + minimum;
    values[j + 16] = scale * static_cast<float>(high) + minimum;
  }
}

double BlockQ5_1::dot(const float* x) const {
  const uint32_t bits = fifth.value();
  const double codes = sum_of_products(32, x, [&](int i) {
    const int four = i < 16 ? low_high[i] & 15 : low_high[i - 16] >> 4;
    return four | static_cast<int>((bits >> i & 1) << 4);
  });
  return d.value() * codes + m.value() * sum_of(32, x);
}

}  // namespace schmidt::quant
