#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/instruction_sets.h"

namespace schmidt::kernels {

/// y = x W^T + bias in bfloat16 for some rows of x: more than gemv kernels are for, too few for
/// what a library's product costs before it begins, which counts most where weights are small as
/// low ranks are. Sums are float32, y is rounded once. W goes into panels of 64 of its rows side by
/// side, each of which all rows of x meet in a cache; ranges of whole sixteens leave no lane empty.
///
/// x is read in pairs: x_stride is even, and where n is odd a finite number stands behind each row.
using Bfloat16Gemm = GemvKernel<c10::BFloat16>;

/// For the products of bfloat16 of AVX-512 and for tiles of them; empty on other architectures.
const Implementations<Bfloat16Gemm>& bfloat16_gemm_implementations();

/// The fastest for this product, or null where a library's is faster.
Bfloat16Gemm bfloat16_gemm(const GemvProblem<c10::BFloat16>& problem);

}  // namespace schmidt::kernels
