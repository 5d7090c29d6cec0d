#pragma once

#include <cstdint>

#include <c10/core/ScalarType.h>

#include "schmidt/quant/integer_format.h"

namespace schmidt::kernels {

/// A matrix W [m, n] in integers of few bits (quant::IntegerFormat) as it lies in memory, every
/// tensor contiguous.
struct QuantizedWeight {
  quant::IntegerFormat format;
  const uint32_t* words;       ///< [m, words of a row]
  const void* scales;          ///< [m, n / group], finite
  c10::ScalarType scale_type;  ///< Float, BFloat16 or Half
  const uint8_t* zeros;        ///< [m, n / group], null where symmetric
  int64_t m, n;

  int64_t groups() const { return n / format.group; }
  int64_t row_words() const { return quant::packed_words(n, format.bits); }
};

/// Columns of x that share a scale where it is in int8. A weight suits them if none of its own
/// groups ends within a block.
inline constexpr int64_t kInt8Block = 32;

inline bool suits_int8_blocks(const QuantizedWeight& w) {
  return w.format.group % kInt8Block == 0 || w.format.group == w.n;
}

/// The scales of row i, and its zero points as numbers: `groups()` of each.
void read_scales(const QuantizedWeight& w, int64_t i, float* scales, float* zeros);

}  // namespace schmidt::kernels
