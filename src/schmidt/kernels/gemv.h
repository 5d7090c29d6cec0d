#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <c10/util/BFloat16.h>

namespace schmidt::kernels {

/// y = x W^T + bias for a few rows of x. The weights are read once, in storage
/// order, and everything else stays in cache: at these sizes the product runs at
/// the speed of memory or not at all. Sums are float32, y is rounded once.
template <typename T>
struct GemvProblem {
  const T* x;     ///< [rows, n], row stride x_stride
  const T* w;     ///< [m, n], row stride w_stride
  const T* bias;  ///< [m], or null
  T* y;           ///< [rows, m], row stride y_stride
  int64_t rows, m, n;
  int64_t x_stride, w_stride, y_stride;  ///< in elements
};

/// Computes outputs begin .. end - 1 of every row.
template <typename T>
using GemvKernel = void (*)(const GemvProblem<T>&, int64_t begin, int64_t end);

/// One implementation, and whether this CPU can run it.
struct GemvVariant {
  std::string_view name;
  bool supported;
  GemvKernel<float> float32;
  GemvKernel<c10::BFloat16> bfloat16;
};

/// All variants that were compiled in, from the plain reference to the fastest.
/// Empty after the reference on CPUs other than x86-64.
const std::vector<GemvVariant>& gemv_variants();

/// Whether a vector variant runs here; the reference alone never beats a library.
bool gemv_is_fast();

/// Runs the fastest supported variant, on several threads where the weights are
/// large enough to pay for waking them.
void gemv(const GemvProblem<float>& problem);
void gemv(const GemvProblem<c10::BFloat16>& problem);

}  // namespace schmidt::kernels
