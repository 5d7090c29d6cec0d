#include "schmidt/kernels/linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).norm() / b.to(at::kDouble).norm()).item<double>();
}

/// Products in float64 are the truth; float32 must be near it, bfloat16 within the
/// rounding of its result (2^-9 each way).
class Dtypes : public testing::TestWithParam<std::pair<at::ScalarType, double>> {};

TEST_P(Dtypes, EqualsTheExactProduct) {
  const auto [dtype, tolerance] = GetParam();
  at::NoGradGuard no_grad;
  for (int64_t rows : {1, 2, 5, 8, 9, 16, 17, 40, 53, 130}) {
    for (auto [m, n] : {std::pair<int64_t, int64_t>{960, 576},
                        {3, 1000},
                        {1000, 3},
                        {1, 1},
                        {65, 34},
                        {79, 2},
                        {200, 130}}) {
      const torch::Tensor x = at::randn({rows, n}).to(dtype), w = at::randn({m, n}).to(dtype);
      const torch::Tensor bias = at::randn({m}).to(dtype);
      const torch::Tensor y = kernels::linear(x, w, bias);
      EXPECT_EQ(y.scalar_type(), dtype);
      EXPECT_LE(relative_difference(
                    y, at::linear(x.to(at::kDouble), w.to(at::kDouble), bias.to(at::kDouble))),
                tolerance)
          << rows << " rows, w " << m << " x " << n;
    }
  }
}

TEST_P(Dtypes, TakesViewsAndAnyLeadingDimensions) {
  const auto [dtype, tolerance] = GetParam();
  at::NoGradGuard no_grad;
  const torch::Tensor x = at::randn({33, 2, 3}).to(dtype).permute({1, 2, 0});  // [2, 3, 33]
  const torch::Tensor wide = at::randn({10, 40}).to(dtype);
  for (const torch::Tensor& w : {wide.slice(1, 2, 35), wide.slice(0, 0, 5).slice(1, 0, 33),
                                 at::randn({33, 7}).to(dtype).t()}) {
    const torch::Tensor y = kernels::linear(x, w);
    EXPECT_EQ(y.sizes(), (std::vector<int64_t>{2, 3, w.size(0)}));
    EXPECT_LE(relative_difference(y, at::linear(x.to(at::kDouble), w.to(at::kDouble))), tolerance);
  }
  EXPECT_EQ(kernels::linear(x[0][0], wide.slice(1, 0, 33)).sizes(), std::vector<int64_t>{10});
}

TEST_P(Dtypes, GoesIntoAPartOfWiderRows) {
  const auto [dtype, tolerance] = GetParam();
  for (const int64_t rows : {1, 7, 70, 130}) {
    const torch::Tensor x = at::randn({rows, 48}).to(dtype), w = at::randn({80, 48}).to(dtype);
    const torch::Tensor y = at::full({rows, 100}, 3.0).to(dtype);
    linear_into(x, w, y.narrow(1, 5, 80));
    EXPECT_LE(
        relative_difference(y.narrow(1, 5, 80), at::linear(x.to(at::kDouble), w.to(at::kDouble))),
        tolerance);
    EXPECT_TRUE(y.narrow(1, 0, 5).eq(3.0).all().item<bool>());
    EXPECT_TRUE(y.narrow(1, 85, 15).eq(3.0).all().item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Linear, Dtypes,
                         testing::Values(std::pair(at::kFloat, 1e-6),
                                         std::pair(at::kBFloat16, 4e-3),
                                         std::pair(at::kDouble, 1e-14)));

TEST(Linear, HasTheLibrarysGradients) {
  std::vector<torch::Tensor> ours, theirs;
  for (auto* gradients : {&ours, &theirs}) {
    torch::Tensor x = (at::arange(10).reshape({2, 5}) / 7.0).requires_grad_(true);
    torch::Tensor w = (at::arange(15).reshape({3, 5}) / 11.0).requires_grad_(true);
    torch::Tensor bias = (at::arange(3) / 5.0).requires_grad_(true);
    const torch::Tensor y =
        gradients == &ours ? kernels::linear(x, w, bias) : at::linear(x, w, bias);
    y.square().sum().backward();
    *gradients = {x.grad(), w.grad(), bias.grad()};
  }
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(ours[i].equal(theirs[i])) << i;
}

TEST(Linear, ExtremesOfSize) {
  at::NoGradGuard no_grad;
  EXPECT_EQ(kernels::linear(at::zeros({0, 4}), at::zeros({3, 4})).sizes(),
            (std::vector<int64_t>{0, 3}));
  EXPECT_TRUE(kernels::linear(at::zeros({2, 0}), at::zeros({3, 0})).equal(at::zeros({2, 3})));
  EXPECT_EQ(kernels::linear(at::zeros({2, 4}), at::zeros({0, 4})).sizes(),
            (std::vector<int64_t>{2, 0}));
}

TEST(Linear, RefusesWhatDoesNotFit) {
  const torch::Tensor x = at::zeros({2, 4}), w = at::zeros({3, 4});
  EXPECT_THROW(kernels::linear(x, at::zeros({3, 5})), c10::ValueError);
  EXPECT_THROW(kernels::linear(x, at::zeros({4})), c10::ValueError);
  EXPECT_THROW(kernels::linear(x, w.to(at::kBFloat16)), c10::ValueError);
  EXPECT_THROW(kernels::linear(x, w, at::zeros({4})), c10::ValueError);
  EXPECT_THROW(kernels::linear(x, w, at::zeros({3}, at::kDouble)), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
