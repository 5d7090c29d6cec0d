#include "schmidt/kernels/interleave.h"

#include <array>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/kernels/at_the_end.h"

namespace schmidt::kernels {
namespace {

torch::Tensor some_columns(int64_t r, int64_t m) {
  return std::get<0>(at::randperm(m, at::kLong).narrow(0, 0, r).sort());
}

torch::Tensor interleave_one(const torch::Tensor& first, const torch::Tensor& second,
                             const torch::Tensor& columns) {
  const ColumnOrder order(columns, first.size(-1) + second.size(-1));
  const Interleaved one{first, second, &order};
  return interleave({&one, 1});
}

/// `whole` cut into the two parts that give it again.
Interleaved parts_of(const torch::Tensor& whole, const ColumnOrder& order) {
  const torch::Tensor both =
      at::empty_like(whole).index_copy_(-1, order.places(), whole.contiguous());
  const auto r = static_cast<int64_t>(order.first().size());
  return {both.narrow(-1, 0, r), both.narrow(-1, r, whole.size(-1) - r), &order};
}

TEST(Interleave, PutsEveryColumnInItsPlace) {
  at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const auto& [rows, r, m] : {std::array<int64_t, 3>{1, 3, 5},
                                     {1, 0, 4},
                                     {2, 4, 4},
                                     {0, 2, 5},
                                     {7, 33, 100},
                                     {300, 117, 576}}) {
      const torch::Tensor left = at::randn({rows, m}).to(dtype);
      const torch::Tensor right = at::randn({rows, m + 3}).to(dtype);
      const torch::Tensor columns = some_columns(r, m);
      const ColumnOrder order(columns, m), wider(some_columns(r, m + 3), m + 3);
      const std::vector<Interleaved> matrices = {parts_of(left, order), parts_of(right, wider)};
      EXPECT_TRUE(matrices[0].first.equal(left.index_select(1, columns)));
      const torch::Tensor expected = at::cat({left, right}, 1);
      EXPECT_TRUE(interleave(matrices).equal(expected)) << dtype << " " << r << "/" << m;
      EXPECT_TRUE(interleave_reference(matrices).equal(expected));
    }
  }
}

template <typename T>
void expect_spans_merged(MergeKernel<T> kernel) {
  for (const auto& [r, m] :
       {std::pair<int64_t, int64_t>{0, 5}, {5, 5}, {3, 31}, {40, 100}, {117, 576}}) {
    const ColumnOrder order(some_columns(r, m), m);
    const int64_t rows = 3, others = m - r;
    const torch::Tensor whole = at::randn({rows, m}).to(c10::CppTypeToScalarType<T>::value);
    const Interleaved parts = parts_of(whole, order);
    const AtTheEnd first(parts.first.contiguous()), second(parts.second.contiguous());
    for (const int64_t cut : {int64_t{0}, others / 3, others}) {
      torch::Tensor result = at::full_like(whole, 9.0);
      for (const auto& [begin, end] : {std::pair{int64_t{0}, cut}, std::pair{cut, others}}) {
        if (begin == end && others > 0) continue;
        kernel(order, span_of_second(order, begin, end),
               {.first = first.data<T>(),
                .second = second.data<T>(),
                .result = result.mutable_data_ptr<T>(),
                .rows = rows,
                .first_stride = r,
                .second_stride = others,
                .result_stride = m});
      }
      EXPECT_TRUE(result.equal(whole)) << r << "/" << m << " cut at " << cut;
    }
  }
}

TEST(Interleave, EveryKernelMergesSpansAndReadsNothingElse) {
  at::NoGradGuard no_grad;
  for (const auto& [set, kernels] : merge_implementations()) {
    if (!supported(set)) continue;
    SCOPED_TRACE(name_of(set));
    expect_spans_merged(kernels.float32);
    expect_spans_merged(kernels.bfloat16);
  }
}

TEST(Interleave, TakesAnyLeadingDimensionsAndStrides) {
  at::NoGradGuard no_grad;
  const torch::Tensor whole = at::randn({2, 3, 40});
  const ColumnOrder order(some_columns(11, 40), 40);
  Interleaved parts = parts_of(whole, order);
  EXPECT_TRUE(interleave({&parts, 1}).equal(whole));
  parts.first = parts.first.permute({2, 0, 1}).contiguous().permute({1, 2, 0});
  parts.second = at::cat({parts.second, parts.second}, -1).narrow(-1, 0, 29);
  EXPECT_TRUE(interleave({&parts, 1}).equal(whole));
}

TEST(Interleave, SendsGradientsBack) {
  const torch::Tensor first = at::randn({2, 2}).requires_grad_();
  const torch::Tensor second = at::randn({2, 3}).requires_grad_();
  const torch::Tensor columns = at::tensor({1, 4}, at::kLong);
  const torch::Tensor weights = at::randn({2, 5});
  (interleave_one(first, second, columns) * weights).sum().backward();
  EXPECT_TRUE(first.grad().equal(weights.index_select(1, columns)));
  EXPECT_TRUE(second.grad().equal(weights.index_select(1, at::tensor({0, 2, 3}, at::kLong))));
}

TEST(Interleave, RefusesWhatDoesNotFit) {
  const torch::Tensor a = at::randn({2, 2}), b = at::randn({2, 3});
  EXPECT_THROW(interleave_one(a, b, at::tensor({1, 1}, at::kLong)), c10::ValueError);
  EXPECT_THROW(interleave_one(a, b, at::tensor({1, 5}, at::kLong)), c10::ValueError);
  EXPECT_THROW(interleave_one(a, b, at::tensor({-1, 2}, at::kLong)), c10::ValueError);
  EXPECT_THROW(interleave_one(a, b, at::tensor({1}, at::kLong)), c10::ValueError);
  EXPECT_THROW(interleave_one(a, at::randn({3, 3}), at::tensor({0, 1}, at::kLong)),
               c10::ValueError);
  EXPECT_THROW(interleave_one(a, b.to(at::kDouble), at::tensor({0, 1}, at::kLong)),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
