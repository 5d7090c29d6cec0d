#include "schmidt/kernels/swiglu.h"

#include <gtest/gtest.h>

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

TEST(Swiglu, RejectsAnOddWidth) { EXPECT_THROW(swiglu(torch::ones({2, 3})), c10::ValueError); }

}  // namespace
}  // namespace schmidt::kernels
