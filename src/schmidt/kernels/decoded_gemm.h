#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>

#include "schmidt/kernels/panel_gemm.h"
#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// y = x W^T, problem.w not read: every thread turns some rows of W into numbers by decode(begin,
/// end, to [end - begin, n]), and all rows of x meet them while they lie in a cache.
template <typename T, typename Decode>
void decoded_gemm(const GemvProblem<T>& problem, PanelGemm<T> multiply, const Decode& decode) {
  constexpr int64_t kRows = kPanelRowsOfW, kUnit = 16;  // that leaves no lane empty
  const int64_t m = problem.m, n = problem.n;
  at::parallel_for(0, (m + kUnit - 1) / kUnit, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> numbers(static_cast<size_t>(kRows * n));
    const int64_t stop = std::min(m, end * kUnit);
    for (int64_t i = begin * kUnit; i < stop; i += kRows) {
      const int64_t count = std::min(kRows, stop - i);
      decode(i, i + count, numbers.data());
      GemvProblem<T> some = problem;
      some.w = numbers.data();
      some.w_stride = n;
      some.m = count;
      some.y = problem.y + i;
      multiply(some, 0, count);
    }
  });
}

/// Whether decoded_gemm() is the fastest way to multiply so many rows by W here: where the CPU
/// multiplies tiles of bfloat16 (AMX), which is faster than products of bytes.
bool decoded_gemm_is_fast(const QuantizedWeight& w, int64_t rows);

/// y [rows, m] = x W^T, x [rows, n] contiguous, n even. Every thread turns some rows of W into
/// bfloat16, s (q - z) rounded once, and all rows of x meet them while they lie in a cache. Sums
/// are float32, y is rounded once.
void decoded_gemm(const QuantizedWeight& w, const c10::BFloat16* x, int64_t rows, c10::BFloat16* y);

}  // namespace schmidt::kernels
