#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// How rows of x in int8 lie beside the codes of W: in blocks of kInt8Block columns, each of which
/// has a scale and meets one group of W.
///
/// Blocks follow each other without a gap where no group ends within one. Elsewhere each group
/// begins with a pair of blocks of its own, at the last multiple of 8 codes before it, as codes of
/// any width begin at a byte there; what is not of the group is zero in x.
struct Int8Layout {
  int64_t columns = 0;            ///< of all pairs of blocks
  int64_t blocks = 0;             ///< those up to the last that holds a column of x
  int64_t groups = 0;             ///< of W in a row, filled up to a multiple of 16
  std::vector<int32_t> group_of;  ///< W's group of each block [columns / 32]
  std::vector<int32_t> code_of;   ///< W's code that meets the first of each block [columns / 32]
};

/// Columns of a pair of blocks, which kernels read at once.
inline constexpr int64_t kInt8Pair = 2 * kInt8Block;

/// Writes the layout beside W into memory that was used before.
void lay_out(const QuantizedWeight& w, Int8Layout& to);

/// A row of x [n] in its places [columns], zeros elsewhere.
void spread(const QuantizedWeight& w, const Int8Layout& layout, const float* x, float* to);

}  // namespace schmidt::kernels
