#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/instruction_sets.h"

namespace schmidt::kernels {

/// Which columns of a matrix the first of two matrices gives, and which the second, each in its
/// order:
///
///     first columns {1, 2}    first  a b        x a b y z
///                             second x y z  ->
class ColumnOrder {
 public:
  /// first int64 [r], ascending in [0, m), on the CPU. Throws c10::ValueError if it is not.
  ColumnOrder(const torch::Tensor& first, int64_t m);

  const std::vector<int64_t>& first() const { return first_; }    ///< r columns
  const std::vector<int64_t>& second() const { return second_; }  ///< the m - r others

  int64_t columns() const { return static_cast<int64_t>(first_.size() + second_.size()); }

  /// A bit for each column, the lowest first, that the first matrix gives; 64 zeros behind them.
  const uint32_t* bits() const { return bits_.data(); }

  /// int64 [m]: where each column stands in the first matrix followed by the second.
  torch::Tensor places() const;

 private:
  std::vector<int64_t> first_, second_;
  std::vector<uint32_t> bits_;
};

/// Some neighbouring columns of a result, and how many of each matrix stand before them.
struct ColumnSpan {
  int64_t begin, end, first, second;
};

/// The columns of the result from number `second_begin` of the second matrix on up to its number
/// `second_end`, both of which 0 and m - r mean the ends of the result.
ColumnSpan span_of_second(const ColumnOrder& order, int64_t second_begin, int64_t second_end);

/// Rows of the two matrices into those of the result, the columns of a span.
template <typename T>
struct RowsToMerge {
  const T* first;
  const T* second;
  T* result;
  int64_t rows;
  int64_t first_stride, second_stride, result_stride;  ///< from row to row
};
template <typename T>
using MergeKernel = void (*)(const ColumnOrder&, const ColumnSpan&, const RowsToMerge<T>&);

struct MergeKernels {
  MergeKernel<float> float32;
  MergeKernel<c10::BFloat16> bfloat16;
};

/// The plain reference, and on x86-64 what was written for vectors that spread their numbers.
const Implementations<MergeKernels>& merge_implementations();

/// Runs the fastest, on this thread.
void merge_columns(const ColumnOrder& order, const ColumnSpan& span,
                   const RowsToMerge<float>& rows);
void merge_columns(const ColumnOrder& order, const ColumnSpan& span,
                   const RowsToMerge<c10::BFloat16>& rows);

/// One matrix [.., m] by the columns of two.
struct Interleaved {
  torch::Tensor first;   ///< [.., r]
  torch::Tensor second;  ///< [.., m - r]
  const ColumnOrder* order = nullptr;
};

/// Such matrices beside each other, [.., sum of their m]. Differentiable.
/// Throws c10::ValueError if parts do not fit their order or differ in rows, dtype or device.
torch::Tensor interleave(std::span<const Interleaved> matrices);

/// The same by ATen operations only, on any device.
torch::Tensor interleave_reference(std::span<const Interleaved> matrices);

}  // namespace schmidt::kernels
