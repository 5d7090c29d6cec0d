#include "schmidt/kernels/rope.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace schmidt::kernels {
namespace {

torch::Tensor angles(int64_t t, int64_t half) {
  return torch::outer(torch::arange(t, torch::kFloat32), torch::pow(0.7, torch::arange(half)));
}

struct Case {
  torch::ScalarType dtype;
  std::vector<int64_t> shape;  // [..., t, heads, d]
  double tolerance;
};

class Rope : public testing::TestWithParam<Case> {};

TEST_P(Rope, KernelAgreesWithReference) {
  const auto& [dtype, shape, tolerance] = GetParam();
  const torch::Tensor x = torch::randn(shape).to(dtype);
  const torch::Tensor a = angles(shape[shape.size() - 3], shape.back() / 2);
  const torch::Tensor y = rope(x, a.cos(), a.sin());
  EXPECT_EQ(y.scalar_type(), dtype);
  EXPECT_TRUE(torch::allclose(y, rope_reference(x, a.cos(), a.sin()), tolerance, tolerance));
}

TEST_P(Rope, HasTheGradientOfItsReference) {
  const auto& [dtype, shape, tolerance] = GetParam();
  const torch::Tensor x = torch::randn(shape).to(dtype).requires_grad_();
  const torch::Tensor a = angles(shape[shape.size() - 3], shape.back() / 2);
  const torch::Tensor direction = torch::randn(shape).to(dtype);
  const auto found = torch::autograd::grad({rope(x, a.cos(), a.sin())}, {x}, {direction});
  const auto expected =
      torch::autograd::grad({rope_reference(x, a.cos(), a.sin())}, {x}, {direction});
  EXPECT_TRUE(torch::allclose(found[0], expected[0], tolerance, tolerance));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Rope,
                         testing::Values(Case{torch::kFloat32, {1, 3, 64}, 4e-6},
                                         Case{torch::kFloat32, {2, 90, 5, 14}, 4e-6},
                                         Case{torch::kFloat32, {2, 0, 5, 14}, 4e-6},
                                         Case{torch::kBFloat16, {2, 9, 3, 64}, 1e-2}));

TEST(Rope, TurnsPairsByTheAngle) {
  // One pair (1, 0) at a quarter turn.
  const torch::Tensor x = torch::tensor({1.0F, 0.0F}).view({1, 1, 2});
  const torch::Tensor y = rope(x, torch::zeros({1, 1}), torch::ones({1, 1}));
  EXPECT_TRUE(torch::equal(y.flatten(), torch::tensor({0.0F, 1.0F})));
}

TEST(Rope, ProductsDependOnDistanceOnly) {
  const torch::Tensor a = angles(20, 8);
  const torch::Tensor q = torch::randn({1, 1, 16});
  const torch::Tensor k = torch::randn({1, 1, 16});
  const auto product = [&](int64_t i, int64_t j) {
    const auto at = [&](const torch::Tensor& x, int64_t p) {
      return rope(x, a.cos().narrow(0, p, 1), a.sin().narrow(0, p, 1));
    };
    return (at(q, i) * at(k, j)).sum().item<float>();
  };
  EXPECT_NEAR(product(7, 3), product(15, 11), 1e-4);
  EXPECT_GT(std::abs(product(7, 3) - product(7, 4)), 1e-3);
}

TEST(Rope, TakesHeadsInsideWiderRows) {
  const torch::Tensor rows = torch::randn({4, 50});
  const torch::Tensor x = rows.narrow(1, 10, 24).unflatten(1, {3, 8});
  const torch::Tensor a = angles(4, 4);
  EXPECT_TRUE(torch::allclose(rope(x, a.cos(), a.sin()),
                              rope_reference(x.clone(), a.cos(), a.sin()), 4e-6, 4e-6));
}

TEST(Rope, RejectsAnglesOfAnotherLength) {
  const torch::Tensor a = angles(4, 4);
  EXPECT_THROW(rope(torch::ones({3, 2, 8}), a.cos(), a.sin()), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
