#include "schmidt/kernels/decoded_gemm.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "schmidt/kernels/panel_gemm.h"
#include "schmidt/kernels/quantized_decode.h"

namespace schmidt::kernels {
namespace {

using c10::BFloat16;

/// Rows of W that are turned into numbers at once: as many as PanelGemm puts side by side.
constexpr int64_t kRows = 64;

/// From so many rows of x on, tiles make up for what turning all of W into numbers costs more than
/// products of its bytes.
constexpr int64_t kFewestRows = 64;

}  // namespace

bool decoded_gemm_is_fast(const QuantizedWeight& w, int64_t rows) {
  return supported(InstructionSet::kAmxBf16) && rows >= kFewestRows && w.n % 2 == 0;
}

void decoded_gemm(const QuantizedWeight& w, const BFloat16* x, int64_t rows, BFloat16* y) {
  static const PanelGemm<BFloat16>* const multiply =
      fastest(panel_gemm_implementations<BFloat16>());
  static const DecodeKernel<BFloat16> decode = fastest(decode_implementations())->bfloat16;
  TORCH_INTERNAL_ASSERT(multiply != nullptr && w.n % 2 == 0);
  at::parallel_for(0, (w.m + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    std::vector<BFloat16> numbers(kRows * w.n);
    for (int64_t i = begin * kRows; i < std::min(w.m, end * kRows); i += kRows) {
      const int64_t count = std::min(kRows, w.m - i);
      decode(w, i, i + count, numbers.data());
      (*multiply)({.x = x,
                   .w = numbers.data(),
                   .y = y + i,
                   .rows = rows,
                   .m = count,
                   .n = w.n,
                   .x_stride = w.n,
                   .w_stride = w.n,
                   .y_stride = w.m},
                  0, count);
    }
  });
}

}  // namespace schmidt::kernels
