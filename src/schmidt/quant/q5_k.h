#pragma once

#include "schmidt/quant/packed_scales.h"

namespace schmidt::quant {

/// Q5_K: 256 values in 176 bytes, 5.5 bits each, in 8 groups of 32.
/// v = d s_g q - dmin m_g, q in 0 .. 31, s_g and m_g in 0 .. 63. Encoded by fit_packed.
struct BlockQ5_K {
  static constexpr int64_t kValues = 256;
  Float16 d, dmin;
  PackedScales scales;
  uint8_t fifth[32];  ///< bit g of byte l is the highest of value 32 g + l
  uint8_t q[128];     ///< the low four bits, as in Q4_K

  static BlockQ5_K encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
