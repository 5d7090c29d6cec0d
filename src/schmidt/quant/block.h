#pragma once

#include <cstdint>
#include <cstring>

#include <c10/util/Half.h>

// What the block formats are made of. A block is read where a file is mapped, at any address, so
// every field is made of bytes. Inner loops run over a constant 16 or 32 numbers, which compilers
// turn into vector code.

namespace schmidt::quant {

struct Float16 {
  uint8_t bytes[2];

  /// Rounded to nearest, ties to even.
  static Float16 of(float value) {
    const uint16_t bits = c10::detail::fp16_ieee_from_fp32_value(value);
    Float16 rounded;
    std::memcpy(rounded.bytes, &bits, sizeof bits);
    return rounded;
  }
  float value() const {
    uint16_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return c10::detail::fp16_ieee_to_fp32_value(bits);
  }
};

struct Bits32 {
  uint8_t bytes[4];

  static Bits32 of(uint32_t bits) {
    Bits32 stored;
    std::memcpy(stored.bytes, &bits, sizeof bits);
    return stored;
  }
  uint32_t value() const {
    uint32_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return bits;
  }
};

/// The integer part of `value`, in 0 .. most. 0 for NaN.
inline int truncated_code(float value, int most) {
  if (!(value > 0)) return 0;
  return value < static_cast<float>(most) ? static_cast<int>(value) : most;
}

/// 1 / scale, and 0 for a block of zeros.
inline float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

/// The first of 32 values that is largest in magnitude, with its sign.
inline float extreme_of_32(const float* values) {
  float extreme = values[0];
  for (int i = 1; i < 32; ++i) {
    const float magnitude = values[i] < 0 ? -values[i] : values[i];
    if (magnitude > (extreme < 0 ? -extreme : extreme)) extreme = values[i];
  }
  return extreme;
}

/// The smallest and the largest of 32 values.
struct Range {
  float low, high;
};
inline Range range_of_32(const float* values) {
  Range range{values[0], values[0]};
  for (int i = 1; i < 32; ++i) {
    if (values[i] < range.low) range.low = values[i];
    if (values[i] > range.high) range.high = values[i];
  }
  return range;
}

/// sum_i w_i x_i of `count` numbers in float64, w_i = of(i) exact in float64.
template <class Of>
double sum_of_products(int count, const float* x, Of&& of) {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(of(i)) * static_cast<double>(x[i]);
  return sum;
}

inline double sum_of(int count, const float* x) {
  return sum_of_products(count, x, [](int) { return 1.0; });
}

}  // namespace schmidt::quant
