#include "schmidt/kernels/low_rank_linear.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

struct Sizes {
  int64_t m, r;
};

/// Weights with stacked right factors, and each as one matrix.
struct Made {
  torch::Tensor right;
  std::vector<ColumnOrder> orders;
  std::vector<LowRankWeight> weights;
  torch::Tensor dense;  // [sum of m, n]
};

Made make(const std::vector<Sizes>& sizes, int64_t n, torch::ScalarType dtype, bool even) {
  Made made;
  made.orders.reserve(sizes.size());
  std::vector<torch::Tensor> rights, dense;
  int64_t row = 0;
  for (const auto& [m, r] : sizes) {
    const torch::Tensor right = (at::randn({r, n}) / std::sqrt(n)).to(dtype);
    const torch::Tensor others = (at::randn({m - r, r}) / std::sqrt(r)).to(dtype);
    const torch::Tensor first = std::get<0>(at::randperm(m, at::kLong).narrow(0, 0, r).sort());
    made.orders.emplace_back(first, m);
    made.weights.push_back({row, others, &made.orders.back()});
    rights.push_back(right);
    if (even && r % 2 != 0) rights.push_back(at::zeros({1, n}, right.options()));
    row += r + (even ? r % 2 : 0);
    const torch::Tensor wide = right.to(at::kDouble);
    dense.push_back(at::cat({wide, others.to(at::kDouble).matmul(wide)})
                        .index_select(0, made.orders.back().places()));
  }
  made.right = at::cat(rights);
  made.dense = at::cat(dense);
  return made;
}

const std::vector<std::vector<Sizes>> kGroups = {
    {{1, 1}}, {{40, 7}}, {{96, 33}, {32, 31}, {32, 32}}, {{576, 211}, {192, 65}, {192, 90}}};

TEST(LowRankLinear, IsTheProductByTheWholeWeights) {
  at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const std::vector<Sizes>& group : kGroups) {
      for (const int64_t n : {1, 33, 192}) {
        for (const bool even : {true, false}) {
          const Made made = make(group, n, dtype, even);
          for (const int64_t rows : {1, 3, 9, 17, 70, 600}) {
            const torch::Tensor x = at::randn({rows, n}).to(dtype);
            const torch::Tensor y = low_rank_linear(x, made.right, made.weights);
            const torch::Tensor exact = x.to(at::kDouble).matmul(made.dense.t());
            const double unit = dtype == at::kBFloat16 ? 0.03 : 1e-4;
            EXPECT_TRUE(y.to(at::kDouble).allclose(exact, unit, unit)) << dtype << " n " << n;
            const torch::Tensor slow = low_rank_linear_reference(x, made.right, made.weights);
            EXPECT_TRUE(y.to(at::kDouble).allclose(slow.to(at::kDouble), unit, unit));
          }
        }
      }
    }
  }
}

TEST(LowRankLinear, ThreadsChangeNothingBeyondRounding) {
  at::NoGradGuard no_grad;
  const int before = at::get_num_threads();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Made made = make(kGroups.back(), 192, dtype, true);
    for (const int64_t rows : {1, 16, 100}) {
      const torch::Tensor x = at::randn({rows, 192}).to(dtype);
      at::set_num_threads(1);
      const torch::Tensor alone = low_rank_linear(x, made.right, made.weights);
      for (const int threads : {2, 3, 8}) {
        at::set_num_threads(threads);
        const double unit = dtype == at::kBFloat16 ? 0.01 : 1e-5;
        EXPECT_TRUE(low_rank_linear(x, made.right, made.weights).allclose(alone, unit, unit))
            << threads << " threads, " << rows << " rows";
      }
    }
  }
  at::set_num_threads(before);
}

TEST(LowRankLinear, NaNStaysInItsRow) {
  at::NoGradGuard no_grad;
  const Made made = make(kGroups.back(), 192, at::kBFloat16, true);
  torch::Tensor x = at::randn({20, 192}).to(at::kBFloat16);
  x[7][33] = std::nan("");
  const torch::Tensor finite = low_rank_linear(x, made.right, made.weights).isfinite().all(1);
  EXPECT_FALSE(finite[7].item<bool>());
  EXPECT_EQ(finite.sum().item<int64_t>(), 19);
}

TEST(LowRankLinear, TakesAnyLeadingDimensionsAndStridesAndNoRows) {
  at::NoGradGuard no_grad;
  const Made made = make(kGroups[2], 48, at::kFloat, true);
  const torch::Tensor wide = at::randn({6, 100});
  const torch::Tensor x = wide.narrow(1, 3, 48);
  const torch::Tensor y = low_rank_linear(x, made.right, made.weights);
  const torch::Tensor whole = x.contiguous();
  EXPECT_TRUE(y.allclose(low_rank_linear(whole, made.right, made.weights), 1e-5, 1e-5));
  EXPECT_TRUE(low_rank_linear(whole.view({2, 3, 48}), made.right, made.weights)
                  .allclose(y.view({2, 3, -1}), 1e-5, 1e-5));
  EXPECT_EQ(low_rank_linear(at::empty({0, 48}), made.right, made.weights).sizes(),
            at::IntArrayRef({0, 160}));
}

TEST(LowRankLinear, RefusesWhatDoesNotFit) {
  const Made made = make(kGroups[1], 48, at::kFloat, true);
  EXPECT_THROW(low_rank_linear(at::randn({2, 47}), made.right, made.weights), c10::ValueError);
  EXPECT_THROW(low_rank_linear(at::randn({2, 48}), made.right, {}), c10::ValueError);
  std::vector<LowRankWeight> moved = made.weights;
  moved.front().begin = 5;
  EXPECT_THROW(low_rank_linear(at::randn({2, 48}), made.right, moved), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
