#include "schmidt/kernels/rms_norm.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace schmidt::kernels {
namespace {

struct Case {
  torch::ScalarType dtype;
  std::vector<int64_t> shape;
  double tolerance;
};

class RmsNorm : public testing::TestWithParam<Case> {};

TEST_P(RmsNorm, KernelAgreesWithReference) {
  const auto& [dtype, shape, tolerance] = GetParam();
  const torch::Tensor x = (torch::randn(shape) * 3).to(dtype);
  const torch::Tensor weight = torch::randn({shape.back()}).to(dtype);
  const torch::Tensor y = rms_norm(x, weight, 1e-5);
  EXPECT_EQ(y.scalar_type(), dtype);
  EXPECT_TRUE(torch::allclose(y, rms_norm_reference(x, weight, 1e-5), tolerance, tolerance));
}

// A bfloat16 result may fall to the other neighbour: the sums run in another order.
INSTANTIATE_TEST_SUITE_P(Shapes, RmsNorm,
                         testing::Values(Case{torch::kFloat32, {1, 576}, 4e-6},
                                         Case{torch::kFloat32, {3, 70, 130}, 4e-6},
                                         Case{torch::kFloat32, {5}, 4e-6},
                                         Case{torch::kFloat32, {0, 8}, 4e-6},
                                         Case{torch::kBFloat16, {1, 576}, 1e-2},
                                         Case{torch::kBFloat16, {200, 77}, 1e-2}));

TEST_P(RmsNorm, HasTheGradientsOfItsReferenceInFloat64) {
  const auto& [dtype, shape, tolerance] = GetParam();
  const std::vector<torch::Tensor> inputs = {
      (torch::randn(shape) * 3).to(dtype).requires_grad_(),
      torch::randn({shape.back()}).to(dtype).requires_grad_()};
  const torch::Tensor direction = torch::randn(shape).to(dtype);
  const auto found =
      torch::autograd::grad({rms_norm(inputs[0], inputs[1], 1e-5)}, inputs, {direction});
  const auto wide = [](const torch::Tensor& x) {
    return x.detach().to(torch::kFloat64).requires_grad_();
  };
  const std::vector<torch::Tensor> exact = {wide(inputs[0]), wide(inputs[1])};
  const torch::Tensor scale = torch::rsqrt(exact[0].square().mean(-1, /*keepdim=*/true) + 1e-5);
  const auto expected =
      torch::autograd::grad({exact[0] * scale * exact[1]}, exact, {direction.to(torch::kFloat64)});
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(found[i].scalar_type(), dtype);
    EXPECT_LE((found[i].to(torch::kFloat64) - expected[i]).norm().item<double>(),
              tolerance * expected[i].norm().item<double>());
  }
}

// Shares of the weight's gradient are the same whatever the threads.
TEST(RmsNorm, GradientsDoNotDependOnThreads) {
  const torch::Tensor x = torch::randn({900, 40}).requires_grad_();
  const torch::Tensor weight = torch::randn({40}).requires_grad_();
  const int threads = at::get_num_threads();
  const auto gradients = [&](int count) {
    at::set_num_threads(count);
    return torch::autograd::grad({rms_norm(x, weight, 1e-5).square().sum()}, {x, weight});
  };
  const auto one = gradients(1), three = gradients(3);
  at::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(one[0], three[0]));
  EXPECT_TRUE(torch::equal(one[1], three[1]));
}

TEST(RmsNorm, HasUnitMeanSquareBeforeTheWeight) {
  const torch::Tensor y = rms_norm(torch::randn({4, 64}) * 50, torch::ones({64}), 0.0);
  EXPECT_TRUE(torch::allclose(y.square().mean(-1), torch::ones({4}), 1e-5));
}

TEST(RmsNorm, TakesRowsThatAreNotPacked) {
  const torch::Tensor wide = torch::randn({6, 40});
  const torch::Tensor x = wide.narrow(1, 4, 32).unflatten(1, {2, 16});
  const torch::Tensor weight = torch::randn({16});
  EXPECT_TRUE(torch::allclose(rms_norm(x, weight, 1e-6),
                              rms_norm_reference(x.clone(), weight, 1e-6), 4e-6, 4e-6));
}

TEST(RmsNorm, RecordsGradients) {
  const torch::Tensor x = torch::randn({3, 8}).requires_grad_();
  const torch::Tensor weight = torch::randn({8}).requires_grad_();
  rms_norm(x, weight, 1e-5).sum().backward();
  // The norm does not change when a row is scaled, so x has no gradient along itself.
  const torch::Tensor along = x.grad() * x;
  EXPECT_TRUE((along.sum(-1).abs() < 1e-3 * along.abs().sum(-1)).all().item<bool>());
  EXPECT_GT(weight.grad().abs().max().item<float>(), 0.0);
}

TEST(RmsNorm, RejectsAnotherWidth) {
  EXPECT_THROW(rms_norm(torch::ones({2, 3}), torch::ones({4}), 1e-5), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
