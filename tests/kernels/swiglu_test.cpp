#include "schmidt/kernels/swiglu.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace schmidt::kernels {
namespace {

TEST(Swiglu, IsSiluOfTheGateTimesUp) {
  const torch::Tensor x = torch::randn({3, 5, 14}, torch::kFloat64);
  const torch::Tensor gate = x.narrow(-1, 0, 7);
  const torch::Tensor truth = gate / (1 + torch::exp(-gate)) * x.narrow(-1, 7, 7);
  EXPECT_TRUE(torch::allclose(swiglu(x), truth, 1e-12, 1e-12));
  EXPECT_TRUE(
      torch::allclose(swiglu(x.to(torch::kFloat32)), truth.to(torch::kFloat32), 1e-5, 1e-6));
  EXPECT_TRUE(
      torch::allclose(swiglu(x.to(torch::kBFloat16)).to(torch::kFloat64), truth, 3e-2, 3e-2));
}

TEST(Swiglu, HasTheSameValueWithAndWithoutAGradient) {
  const torch::Tensor x = torch::randn({4, 6});
  const torch::Tensor plain = swiglu(x);
  const torch::Tensor recorded = swiglu(x.clone().requires_grad_());
  EXPECT_TRUE(recorded.requires_grad());
  EXPECT_TRUE(torch::allclose(plain, recorded, 1e-6, 1e-7));
}

TEST(Swiglu, HasTheGradientOfItsReference) {
  for (const auto& [dtype, tolerance] :
       {std::pair{torch::kFloat32, 2e-6}, std::pair{torch::kBFloat16, 8e-3}}) {
    const torch::Tensor x = (torch::randn({7, 3, 70}) * 4).to(dtype).requires_grad_();
    const torch::Tensor exact = x.detach().to(torch::kFloat64).requires_grad_();
    const torch::Tensor direction = torch::randn({7, 3, 35}).to(dtype);
    const torch::Tensor found = torch::autograd::grad({swiglu(x)}, {x}, {direction})[0];
    const torch::Tensor expected = torch::autograd::grad({swiglu_reference(exact)}, {exact},
                                                         {direction.to(torch::kFloat64)})[0];
    EXPECT_LT((found.to(torch::kFloat64) - expected).norm().item<double>(),
              tolerance * expected.norm().item<double>());
  }
}

TEST(Swiglu, ClosesAndOpensTheGateFarOut) {
  const torch::Tensor x = torch::tensor({-300.0F, 300.0F, -90.0F, 2.0F, 3.0F, 4.0F});
  const torch::Tensor y = swiglu(x);
  EXPECT_TRUE(torch::allclose(y, torch::tensor({0.0F, 900.0F, 0.0F}), 1e-6, 1e-30));
}

TEST(Geglu, IsGeluByTanhOfTheGateTimesUp) {
  const torch::Tensor x = torch::randn({3, 5, 14}, torch::kFloat64);
  const torch::Tensor gate = x.narrow(-1, 0, 7);
  const torch::Tensor inner = std::sqrt(2 / std::numbers::pi) * (gate + 0.044715 * gate.pow(3));
  const torch::Tensor truth = gate / 2 * (1 + torch::tanh(inner)) * x.narrow(-1, 7, 7);
  EXPECT_TRUE(torch::allclose(geglu(x), truth, 1e-12, 1e-12));
  EXPECT_THROW(geglu(torch::ones({2, 3})), c10::ValueError);
}

TEST(Swiglu, RejectsAnOddWidth) { EXPECT_THROW(swiglu(torch::ones({2, 3})), c10::ValueError); }

}  // namespace
}  // namespace schmidt::kernels
