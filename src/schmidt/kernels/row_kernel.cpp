#include "schmidt/kernels/row_kernel.h"

#include <algorithm>
#include <type_traits>

#include "schmidt/kernels/panel_gemm.h"

namespace schmidt::kernels {
namespace {

constexpr int64_t kSmall = 256 << 10;  // bytes of weights

/// What wakes a second thread costs a few microseconds: one core reads so many bytes of weights in
/// them, or multiplies so often.
constexpr int64_t kBytesPerThread = 64 << 10, kProductsPerThread = 1 << 17;

template <typename T>
int64_t row_bytes(const GemvProblem<T>& p) {
  return std::max<int64_t>(1, p.n * static_cast<int64_t>(sizeof(T)));
}

template <typename T>
RowKernel<T> few_rows(const GemvProblem<T>& p) {
  return {.run = gemv_kernel<T>(), .grain = std::max<int64_t>(1, kBytesPerThread / row_bytes(p))};
}

template <typename T>
RowKernel<T> many_rows(const GemvProblem<T>& p, PanelGemm<T> gemm) {
  constexpr int64_t kLanes = 16;
  const int64_t products = std::max<int64_t>(1, kLanes * p.n * p.rows);
  return {.run = gemm,
          .unit = kLanes,
          .grain = kLanes * std::max<int64_t>(1, kProductsPerThread / products),
          .pairs = std::is_same_v<T, c10::BFloat16>};
}

}  // namespace

// Bounds were measured on AVX-512: of gemv kernels against PanelGemm, or where that is none against
// MKL (float32) and oneDNN with its matrix unit (bfloat16), which needs some 20 microseconds before
// it starts. A small product is done by then.

RowKernel<float> row_kernel(const GemvProblem<float>& p) {
  const auto gemm = panel_gemm(p);
  const int64_t few = gemm != nullptr ? 64 : 16;
  return gemv_is_fast() && p.rows <= few ? few_rows(p) : many_rows(p, gemm);
}

RowKernel<c10::BFloat16> row_kernel(const GemvProblem<c10::BFloat16>& p) {
  const bool small = p.m * row_bytes(p) <= kSmall;
  const auto gemm = panel_gemm(p);
  const int64_t few = gemm != nullptr ? (small ? 8 : 4) : (small ? 16 : 8);
  return gemv_is_fast() && p.rows <= few ? few_rows(p) : many_rows(p, gemm);
}

InputRows input_rows(const torch::Tensor& x) {
  const int64_t n = x.size(-1);
  if (x.dim() == 2 && x.stride(1) == 1 && x.stride(0) >= n) return {x, x.stride(0)};
  return {x.contiguous(), n};
}

}  // namespace schmidt::kernels
