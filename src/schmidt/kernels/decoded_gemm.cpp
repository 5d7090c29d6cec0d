#include "schmidt/kernels/decoded_gemm.h"

#include "schmidt/kernels/quantized_decode.h"

namespace schmidt::kernels {
namespace {

using c10::BFloat16;

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
  decoded_gemm(contiguous_problem(x, rows, w.m, w.n, y), *multiply,
               [&](int64_t begin, int64_t end, BFloat16* to) { decode(w, begin, end, to); });
}

}  // namespace schmidt::kernels
