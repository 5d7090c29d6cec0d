#pragma once

#include "schmidt/quant/packed_scales.h"

namespace schmidt::quant {

/// Q4_K: 256 values in 144 bytes, 4.5 bits each, in 8 groups of 32.
/// v = d s_g q - dmin m_g, q in 0 .. 15, s_g and m_g in 0 .. 63. Encoded by fit_packed.
struct BlockQ4_K {
  static constexpr int64_t kValues = 256;
  Float16 d, dmin;
  PackedScales scales;
  uint8_t q[128];  ///< byte 32 j + l holds values 64 j + l (low half) and 64 j + 32 + l

  static BlockQ4_K encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
