#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q8_0: 32 values in 34 bytes, 8.5 bits each. v_i = d q_i, q_i in -127 .. 127.
/// Encoded with the largest magnitude at 127, rounded to nearest, halves away from zero.
struct BlockQ8_0 {
  static constexpr int64_t kValues = 32;
  Float16 d;
  int8_t q[32];

  static BlockQ8_0 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
