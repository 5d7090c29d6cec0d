#include "schmidt/kernels/interleave.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/interleave_x86.h"

namespace schmidt::kernels {
namespace {

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

/// Rows of a part, as merge_columns() reads them.
torch::Tensor in_rows(const torch::Tensor& part, int64_t count) {
  const torch::Tensor rows = part.reshape({count, part.size(-1)});
  return rows.size(1) > 1 && rows.stride(1) != 1 ? rows.contiguous() : rows;
}

template <typename T>
void reference(const ColumnOrder& order, const ColumnSpan& span, const RowsToMerge<T>& rows) {
  for (int64_t row = 0; row < rows.rows; ++row) {
    const T* first = rows.first + row * rows.first_stride + span.first;
    const T* second = rows.second + row * rows.second_stride + span.second;
    T* const to = rows.result + row * rows.result_stride;
    for (int64_t i = span.begin; i < span.end; ++i) {
      const bool of_first = (order.bits()[i / 32] >> (i % 32) & 1) != 0;
      to[i] = of_first ? *first++ : *second++;
    }
  }
}

const MergeKernels& chosen() {
  static const MergeKernels* const kernels = fastest(merge_implementations());
  return *kernels;
}

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
  bits_.resize(static_cast<size_t>(m) / 32 + 3);
  for (const int64_t i : first_) bits_[i / 32] |= uint32_t{1} << (i % 32);
}

torch::Tensor ColumnOrder::places() const {
  torch::Tensor places = at::empty({columns()}, at::kLong);
  int64_t* const place = places.mutable_data_ptr<int64_t>();
  int64_t before = 0;
  for (const auto* columns : {&first_, &second_}) {
    for (const int64_t column : *columns) place[column] = before++;
  }
  return places;
}

ColumnSpan span_of_second(const ColumnOrder& order, int64_t second_begin, int64_t second_end) {
  const std::vector<int64_t>& second = order.second();
  const auto count = static_cast<int64_t>(second.size());
  const auto begin = [&] {
    if (second_begin == 0) return int64_t{0};
    return second_begin == count ? order.columns() : second[second_begin];
  };
  const auto end = [&] {
    if (second_end == count) return order.columns();
    return second_end == 0 ? int64_t{0} : second[second_end];
  };
  return {begin(), end(), begin() - second_begin, second_begin};
}

const Implementations<MergeKernels>& merge_implementations() {
  static const Implementations<MergeKernels> all = [] {
    Implementations<MergeKernels> found = {
        {InstructionSet::kPortable, {reference<float>, reference<c10::BFloat16>}}};
    for (const auto& implementation : x86_merge_implementations()) found.push_back(implementation);
    return found;
  }();
  return all;
}

void merge_columns(const ColumnOrder& order, const ColumnSpan& span,
                   const RowsToMerge<float>& rows) {
  chosen().float32(order, span, rows);
}

void merge_columns(const ColumnOrder& order, const ColumnSpan& span,
                   const RowsToMerge<c10::BFloat16>& rows) {
  chosen().bfloat16(order, span, rows);
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
    columns += order->columns();
  }
  if (!fast) return interleave_reference(matrices);
  const torch::Tensor& like = matrices.front().first;
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes.back() = columns;
  torch::Tensor result = at::empty(sizes, like.options());
  if (result.numel() == 0) return result;
  with_fast_type(like.scalar_type(), [&]<typename T>(T*) {
    T* const to = result.mutable_data_ptr<T>();
    const int64_t count = result.numel() / columns;
    std::vector<std::pair<torch::Tensor, torch::Tensor>> parts;
    for (const Interleaved& matrix : matrices) {
      parts.emplace_back(in_rows(matrix.first, count), in_rows(matrix.second, count));
    }
    at::parallel_for(0, count, std::max<int64_t>(1, kGrain / columns),
                     [&](int64_t begin, int64_t end) {
                       int64_t offset = begin * columns;
                       for (size_t i = 0; i < parts.size(); ++i) {
                         const auto& [first, second] = parts[i];
                         const ColumnOrder& order = *matrices[i].order;
                         const RowsToMerge<T> rows{
                             .first = first.const_data_ptr<T>() + begin * first.stride(0),
                             .second = second.const_data_ptr<T>() + begin * second.stride(0),
                             .result = to + offset,
                             .rows = end - begin,
                             .first_stride = first.stride(0),
                             .second_stride = second.stride(0),
                             .result_stride = columns};
                         merge_columns(order, {0, order.columns(), 0, 0}, rows);
                         offset += order.columns();
                       }
                     });
  });
  return result;
}

}  // namespace schmidt::kernels
