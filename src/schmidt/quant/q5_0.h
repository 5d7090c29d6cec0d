#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q5_0: 32 values in 22 bytes, 5.5 bits each. v_i = d (q_i - 16), q_i in 0 .. 31.
/// Encoded as Q4_0, with d = v / -16.
struct BlockQ5_0 {
  static constexpr int64_t kValues = 32;
  Float16 d;
  Bits32 fifth;          ///< bit i is the highest of q_i
  uint8_t low_high[16];  ///< the low four bits, as in Q4_0

  static BlockQ5_0 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
