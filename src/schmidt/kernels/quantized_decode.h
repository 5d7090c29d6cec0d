#pragma once

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/kernels/int8_layout.h"
#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// Writes rows begin .. end - 1 of W as numbers [end - begin, n], s (q - z) rounded to float32 and
/// then to T.
template <typename T>
using DecodeKernel = void (*)(const QuantizedWeight&, int64_t begin, int64_t end, T* to);

/// Rows of W in a panel, which lie side by side.
inline constexpr int64_t kPanelRows = 32;

/// Columns of a panel: those of all blocks that hold a column of x.
inline int64_t panel_columns(const Int8Layout& layout) { return layout.blocks * kInt8Block; }

/// Writes the codes of rows i .. i + count - 1, a byte each, to a panel [columns / 4, kPanelRows,
/// 4], count <= kPanelRows, each beside the column of x that it meets. What it writes for other
/// rows and for columns that meet zeros has no meaning.
using PanelCodes = void (*)(const QuantizedWeight&, const Int8Layout&, int64_t i, int64_t count,
                            uint8_t* to);

struct DecodeKernels {
  DecodeKernel<float> float32;
  DecodeKernel<c10::BFloat16> bfloat16;
  PanelCodes panel_codes;
};

/// The reference by quant::decode_row, and what was written for the vectors of x86-64. All give
/// the same bits.
const Implementations<DecodeKernels>& decode_implementations();

/// Runs the fastest on several threads.
void decode_rows(const QuantizedWeight& w, int64_t begin, int64_t end, float* to);
void decode_rows(const QuantizedWeight& w, int64_t begin, int64_t end, c10::BFloat16* to);

}  // namespace schmidt::kernels
