#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// Whether decoded_gemm() is the fastest way to multiply so many rows by W here: where the CPU
/// multiplies tiles of bfloat16 (AMX), which is faster than products of bytes.
bool decoded_gemm_is_fast(const QuantizedWeight& w, int64_t rows);

/// y [rows, m] = x W^T, x [rows, n] contiguous, n even. Every thread turns some rows of W into
/// bfloat16, s (q - z) rounded once, and all rows of x meet them while they lie in a cache. Sums
/// are float32, y is rounded once.
void decoded_gemm(const QuantizedWeight& w, const c10::BFloat16* x, int64_t rows, c10::BFloat16* y);

}  // namespace schmidt::kernels
