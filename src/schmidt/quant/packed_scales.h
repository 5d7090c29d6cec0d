#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Eight scales and eight minima of six bits each in twelve bytes, of Q4_K and Q5_K.
struct PackedScales {
  uint8_t s[12];
  int scale(int i) const { return i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4; }
  int minimum(int i) const { return i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4; }

  /// Eight of each, in 0 .. 63.
  static PackedScales of(const int* scales, const int* minima);
};

/// 256 values in groups of 32: v = d s_g q - dmin m_g, q in 0 .. most.
struct PackedFit {
  Float16 d, dmin;
  PackedScales scales;
  uint8_t codes[256];
};

/// As ggml's reference finds them: each group alone by fit_with_minimum, errors by square, values
/// weighted by their magnitude and the root of their mean square; scales and minima in 63 steps of
/// the largest; codes again for these. `first` and `steps` as in MinimumSearch.
PackedFit fit_packed(const float* values, int most, float first, int steps);

}  // namespace schmidt::quant
