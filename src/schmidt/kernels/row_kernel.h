#pragma once

#include <cstdint>

#include <torch/types.h>

#include "schmidt/kernels/gemv.h"

namespace schmidt::kernels {

/// A kernel for y = x W^T of a few or of some rows of x, and how threads share its outputs.
template <typename T>
struct RowKernel {
  GemvKernel<T> run = nullptr;  ///< null where a library's product is faster
  int64_t unit = 1;             ///< outputs that are computed together: ranges begin at multiples
  int64_t grain = 1;            ///< outputs for which another thread is worth waking
  bool pairs = false;           ///< reads x as PanelGemm of bfloat16 does
};

/// The fastest for this product; the problem's pointers may be null.
RowKernel<float> row_kernel(const GemvProblem<float>& problem);
RowKernel<c10::BFloat16> row_kernel(const GemvProblem<c10::BFloat16>& problem);

/// x [.., n] as such a kernel reads its rows: those of a wider matrix as they lie, others in order.
struct InputRows {
  torch::Tensor held;
  int64_t stride = 0;  ///< from row to row, in numbers
};
InputRows input_rows(const torch::Tensor& x);

}  // namespace schmidt::kernels
