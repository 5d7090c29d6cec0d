#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q4_1: 32 values in 20 bytes, 5 bits each. v_i = d q_i + m, q_i in 0 .. 15.
/// Encoded from the smallest value, m, to the largest in 15 steps.
struct BlockQ4_1 {
  static constexpr int64_t kValues = 32;
  Float16 d, m;
  uint8_t low_high[16];  ///< q_j in the low half of byte j, q_{j + 16} in the high half

  static BlockQ4_1 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
