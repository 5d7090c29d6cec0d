#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Q6_K: 256 values in 210 bytes, 6.5625 bits each, in 16 groups of 16.
/// v = d s_g (q - 32), q in 0 .. 63, s_g in -128 .. 127. Encoded by fit_by_scales, scales
/// in 256 steps, the largest at -128.
struct BlockQ6_K {
  static constexpr int64_t kValues = 256;
  uint8_t low[128];  ///< byte 64 h + 32 p + l: low bits of values 128 h + 32 p + l and + 64
  uint8_t high[64];  ///< byte 32 h + l: two bits of each of values 128 h + 32 s + l, s = 0 .. 3
  int8_t scales[16];
  Float16 d;

  static BlockQ6_K encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
