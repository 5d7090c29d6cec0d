#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q3_K: 256 values in 110 bytes, 3.4375 bits each, in 16 groups of 16.
/// v = d (s_g - 32) (q - 4), q in 0 .. 7, s_g in 0 .. 63. Encoded by
/// fit_by_codes, scales in 64 steps, the largest at 0.
struct BlockQ3_K {
  static constexpr int64_t kValues = 256;
  uint8_t third[32];   ///< bit 4 h + s of byte l is the highest of value 128 h + 32 s + l
  uint8_t q[64];       ///< the low two bits, as in Q2_K
  uint8_t scales[12];  ///< four bits of s_g and s_{g + 8} in the first eight bytes, two in the rest
  Float16 d;

  static BlockQ3_K encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
