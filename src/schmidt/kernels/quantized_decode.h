#pragma once

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// Writes rows begin .. end - 1 of W as numbers [end - begin, n], s (q - z) rounded to float32 and
/// then to T.
template <typename T>
using DecodeKernel = void (*)(const QuantizedWeight&, int64_t begin, int64_t end, T* to);

struct DecodeKernels {
  DecodeKernel<float> float32;
  DecodeKernel<c10::BFloat16> bfloat16;
};

/// The reference by quant::decode_row, and what was written for the vectors of x86-64. All give
/// the same bits.
const Implementations<DecodeKernels>& decode_implementations();

/// Runs the fastest on several threads.
void decode_rows(const QuantizedWeight& w, int64_t begin, int64_t end, float* to);
void decode_rows(const QuantizedWeight& w, int64_t begin, int64_t end, c10::BFloat16* to);

}  // namespace schmidt::kernels
