#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q2_K: 256 values in 84 bytes, 2.625 bits each, in 16 groups of 16.
/// v = d s_g q - dmin m_g, q in 0 .. 3, s_g and m_g in 0 .. 15. Encoded as Q4_K, groups
/// alone by magnitude of error, values weighted by theirs.
struct BlockQ2_K {
  static constexpr int64_t kValues = 256;
  uint8_t scale_min[16];  ///< s_g in the low half, m_g in the high half
  uint8_t q[64];  ///< byte 32 h + l holds values 128 h + 32 s + l, s = 0 .. 3, two bits each
  Float16 d, dmin;

  static BlockQ2_K encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
