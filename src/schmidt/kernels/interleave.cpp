#include "schmidt/kernels/interleave.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "schmidt/kernels/fast_path.h"

namespace schmidt::kernels {
namespace {

int64_t columns_of(const ColumnOrder& order) {
  return static_cast<int64_t>(order.first().size() + order.second().size());
}

void check(std::span<const Interleaved> matrices) {
  TORCH_CHECK_VALUE(!matrices.empty(), "[interleave] expected a matrix or more, got none");
  const torch::Tensor& like = matrices.front().first;
  const auto fits = [&](const torch::Tensor& part, const std::vector<int64_t>& columns) {
    return part.dim() == like.dim() && part.dim() >= 1 &&
           part.sizes().slice(0, part.dim() - 1) == like.sizes().slice(0, like.dim() - 1) &&
           part.size(-1) == static_cast<int64_t>(columns.size()) &&
           part.scalar_type() == like.scalar_type() && part.device() == like.device();
  };
  for (const auto& [first, second, order] : matrices) {
    TORCH_CHECK_VALUE(fits(first, order->first()) && fits(second, order->second()),
                      "[interleave] expected parts of ", order->first().size(), " and ",
                      order->second().size(), " columns and of the same rows, dtype and device, ",
                      "got ", first.sizes(), " and ", second.sizes());
  }
}

/// Columns of one matrix on their way into the result, T [rows, count].
template <typename T>
struct Part {
  Part(const torch::Tensor& part, const std::vector<int64_t>& columns, int64_t offset)
      : held(part.reshape({-1, part.size(-1)})), columns(columns), offset(offset) {
    if (held.size(1) > 1 && held.stride(1) != 1) held = held.contiguous();
    from = held.const_data_ptr<T>();
    stride = held.stride(0);
    count = held.size(1);
  }

  void copy(int64_t row, T* result) const {
    place_columns(from + row * stride, columns, 0, count, result + offset);
  }

  torch::Tensor held;
  const std::vector<int64_t>& columns;
  int64_t offset;  // of the matrix in the result
  const T* from = nullptr;
  int64_t stride = 0, count = 0;
};

}  // namespace

ColumnOrder::ColumnOrder(const torch::Tensor& first, int64_t m) {
  TORCH_CHECK_VALUE(first.dim() == 1 && first.scalar_type() == torch::kInt64 && first.is_cpu() &&
                        first.is_contiguous() && first.size(0) <= m,
                    "[interleave] expected at most ", m, " columns, int64 on the CPU, got ",
                    first.sizes());
  const int64_t* const column = first.const_data_ptr<int64_t>();
  first_.assign(column, column + first.size(0));
  for (size_t j = 0; j < first_.size(); ++j) {
    TORCH_CHECK_VALUE(first_[j] >= (j == 0 ? 0 : first_[j - 1] + 1) && first_[j] < m,
                      "[interleave] expected ascending columns below ", m, ", got ", first_[j],
                      " as number ", j);
  }
  second_.reserve(static_cast<size_t>(m) - first_.size());
  for (int64_t i = 0; i < m; ++i) {
    if (!std::binary_search(first_.begin(), first_.end(), i)) second_.push_back(i);
  }
}

torch::Tensor ColumnOrder::places() const {
  torch::Tensor places = at::empty({columns_of(*this)}, at::kLong);
  int64_t* const place = places.mutable_data_ptr<int64_t>();
  int64_t before = 0;
  for (const auto* columns : {&first_, &second_}) {
    for (const int64_t column : *columns) place[column] = before++;
  }
  return places;
}

torch::Tensor interleave_reference(std::span<const Interleaved> matrices) {
  std::vector<torch::Tensor> all;
  for (const auto& [first, second, order] : matrices) {
    all.push_back(
        at::cat({first, second}, -1).index_select(-1, order->places().to(first.device())));
  }
  return at::cat(all, -1);
}

torch::Tensor interleave(std::span<const Interleaved> matrices) {
  check(matrices);
  bool fast = true;
  int64_t columns = 0;
  for (const auto& [first, second, order] : matrices) {
    fast = fast && fast_path({&first, &second});
    columns += columns_of(*order);
  }
  if (!fast) return interleave_reference(matrices);
  const torch::Tensor& like = matrices.front().first;
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes.back() = columns;
  torch::Tensor result = at::empty(sizes, like.options());
  if (result.numel() == 0) return result;
  with_fast_type(like.scalar_type(), [&]<typename T>(T*) {
    std::vector<Part<T>> parts;
    int64_t offset = 0;
    for (const auto& [first, second, order] : matrices) {
      if (first.size(-1) > 0) parts.emplace_back(first, order->first(), offset);
      if (second.size(-1) > 0) parts.emplace_back(second, order->second(), offset);
      offset += columns_of(*order);
    }
    T* const to = result.mutable_data_ptr<T>();
    at::parallel_for(0, result.numel() / columns, std::max<int64_t>(1, kGrain / columns),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t row = begin; row < end; ++row) {
                         for (const Part<T>& part : parts) part.copy(row, to + row * columns);
                       }
                     });
  });
  return result;
}

}  // namespace schmidt::kernels
