#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>
#include <torch/types.h>

#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/instruction_sets.h"

namespace schmidt::kernels {

/// y = x W^T + bias for some rows of x: more than gemv kernels are for. W goes into panels of 64 of
/// its rows side by side, each of which all rows of x meet in a cache; ranges of whole sixteens
/// leave no lane empty. Sums are float32, y is rounded once.
///
/// In bfloat16 it saves what a library's product costs before it begins, which counts most where
/// weights are small as low ranks are. x is read in pairs there: x_stride is even, and where n is
/// odd a finite number stands behind each row. In float32 it is for processors whose vectors of 512
/// bits MKL leaves unused: all but Intel's.
template <typename T>
using PanelGemm = GemvKernel<T>;

/// By vectors of AVX-512, and in bfloat16 by tiles too; empty on other architectures.
template <typename T>
const Implementations<PanelGemm<T>>& panel_gemm_implementations();

/// W [m, n] in float32 or bfloat16 put into panels once, for small products that come again: int32
/// [ceil(m / kPanelRowsOfW), words, kPanelRowsOfW]. Undefined where there are no vectors for it.
torch::Tensor packed_panels(const torch::Tensor& w);

inline constexpr int64_t kPanelRowsOfW = 64;

/// The product with such panels, outputs begin .. end - 1, where begin is a multiple of
/// kPanelRowsOfW. problem.w is not read.
template <typename T>
void multiply_panels(const torch::Tensor& panels, const GemvProblem<T>& problem, int64_t begin,
                     int64_t end);

/// The fastest for this product, or null where a library's is faster.
template <typename T>
PanelGemm<T> panel_gemm(const GemvProblem<T>& problem);

}  // namespace schmidt::kernels
