#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q4_0: 32 values in 18 bytes, 4.5 bits each. v_i = d (q_i - 8), q_i in 0 .. 15.
/// Encoded with d = v / -8 of the v that is largest in magnitude, which is met exactly; its
/// opposite is not.
struct BlockQ4_0 {
  static constexpr int64_t kValues = 32;
  Float16 d;
  uint8_t low_high[16];  ///< q_j in the low half of byte j, q_{j + 16} in the high half

  static BlockQ4_0 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
