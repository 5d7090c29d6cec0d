#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q5_1: 32 values in 24 bytes, 6 bits each. v_i = d q_i + m, q_i in 0 .. 31.
/// Encoded as Q4_1, in 31 steps.
struct BlockQ5_1 {
  static constexpr int64_t kValues = 32;
  Float16 d, m;
  Bits32 fifth;          ///< bit i is the highest of q_i
  uint8_t low_high[16];  ///< the low four bits, as in Q4_1

  static BlockQ5_1 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
