#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/instruction_sets.h"

namespace schmidt::kernels {

/// y = x W^T + bias for a few rows of x. The weights are read once, in storage
/// order, and everything else stays in cache: at these sizes the product runs at
/// the speed of memory or not at all. Sums are float32, y is rounded once.
template <typename T>
struct GemvProblem {
  const T* x = nullptr;     ///< [rows, n], row stride x_stride
  const T* w = nullptr;     ///< [m, n], row stride w_stride
  const T* bias = nullptr;  ///< [m], or null
  T* y = nullptr;           ///< [rows, m], row stride y_stride
  int64_t rows, m, n;
  int64_t x_stride, w_stride, y_stride;  ///< in elements
};

/// That of x [rows, n], W [m, n] and y [rows, m] whose rows lie behind each other; W is not given.
template <typename T>
GemvProblem<T> contiguous_problem(const T* x, int64_t rows, int64_t m, int64_t n, T* y) {
  return {
      .x = x, .y = y, .rows = rows, .m = m, .n = n, .x_stride = n, .w_stride = n, .y_stride = m};
}

/// Computes outputs begin .. end - 1 of every row.
template <typename T>
using GemvKernel = void (*)(const GemvProblem<T>&, int64_t begin, int64_t end);

struct GemvKernels {
  GemvKernel<float> float32;
  GemvKernel<c10::BFloat16> bfloat16;
};

/// The plain reference, and on x86-64 what was written for its vectors.
const Implementations<GemvKernels>& gemv_implementations();

/// Whether vectors are used here; the reference alone never beats a library.
bool gemv_is_fast();

/// The fastest here.
template <typename T>
GemvKernel<T> gemv_kernel();

}  // namespace schmidt::kernels
