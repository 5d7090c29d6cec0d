#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

/// Eight scales and eight minima of six bits each in twelve bytes, of Q4_K and Q5_K.
struct PackedScales {
  uint8_t s[12];
  int scale(int i) const { return i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4; }
  int minimum(int i) const { return i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4; }
};

}  // namespace schmidt::quant
