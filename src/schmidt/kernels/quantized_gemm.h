#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/kernels/quantized_decode.h"
#include "schmidt/kernels/quantized_gemv.h"
#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// y = x W^T with W in integers of few bits, for many rows of x in int8: what reading a prompt asks
/// for. The formula and its error are those of kernels/quantized_gemv. W is taken apart once, a
/// panel of its rows at a time, and every row of x meets the panel while it lies in a cache.

/// Some rows of W side by side, those that are missing at the end of W with zeros as scales.
struct Panel {
  const uint8_t* codes;  ///< [columns / 4, kPanelRows, 4]
  const float* scales;   ///< [groups, kPanelRows]
  const float* offsets;  ///< scale times zero point [groups, kPanelRows]
  int64_t columns;       ///< as panel_columns()
  int64_t groups;
};

/// Writes outputs i .. i + count - 1 of every row of x, count <= kPanelRows.
template <typename T>
using PanelKernel = void (*)(const Panel&, const Int8Rows& x, int64_t i, int64_t count,
                             const Outputs<T>&);

struct PanelKernels {
  PanelKernel<float> float32;
  PanelKernel<c10::BFloat16> bfloat16;
};

/// The plain reference, and on x86-64 what was written for products of 8-bit integers.
const Implementations<PanelKernels>& panel_implementations();

/// Whether this CPU multiplies 8-bit integers faster than other numbers.
bool quantized_gemm_is_fast();

/// x [rows, n] float32, contiguous; W suits_int8(). On several threads.
void quantized_gemm(const QuantizedWeight& w, const float* x, int64_t rows,
                    const Outputs<float>& y);
void quantized_gemm(const QuantizedWeight& w, const float* x, int64_t rows,
                    const Outputs<c10::BFloat16>& y);

/// The same by one implementation, on one thread.
template <typename T>
void quantized_gemm(PanelKernel<T> kernel, const QuantizedWeight& w, const Int8Rows& x,
                    const Outputs<T>& y);

}  // namespace schmidt::kernels
