#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <torch/types.h>

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

  /// int64 [m]: where each column stands in the first matrix followed by the second.
  torch::Tensor places() const;

 private:
  std::vector<int64_t> first_, second_;
};

/// Numbers begin .. end of a row of one of the two, to their columns of the result's row.
template <typename T>
void place_columns(const T* from, const std::vector<int64_t>& columns, int64_t begin, int64_t end,
                   T* result) {
  const int64_t* const to = columns.data();
  for (int64_t i = begin; i < end; ++i) result[to[i]] = from[i];
}

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
