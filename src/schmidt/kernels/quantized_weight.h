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

/// Columns of x that share a scale where it is in int8.
inline constexpr int64_t kInt8Block = 32;

/// Whether no group of W ends within a block, if blocks follow each other without a gap.
inline bool suits_int8_blocks(const QuantizedWeight& w) {
  return w.format.group % kInt8Block == 0 || w.format.group == w.n;
}

/// Whether a product with x in int8 is the fast way. Groups that end within a block get blocks of
/// their own, which pays where they fill half of one.
inline bool suits_int8(const QuantizedWeight& w) {
  return suits_int8_blocks(w) || 2 * w.format.group >= kInt8Block;
}

/// The scales of row i, and its zero points as numbers: `groups()` of each.
void read_scales(const QuantizedWeight& w, int64_t i, float* scales, float* zeros);

}  // namespace schmidt::kernels
