#include "schmidt/kernels/softmax.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace schmidt::kernels {
namespace {

class Softmax : public testing::TestWithParam<std::tuple<torch::ScalarType, int64_t>> {
 protected:
  torch::ScalarType dtype_ = std::get<0>(GetParam());
  int64_t vocab_ = std::get<1>(GetParam());
  // One row far from zero, one nearly certain.
  torch::Tensor random() const {
    torch::Tensor x = torch::randn({5, vocab_}) * 3;
    x[1] += 200;
    x[2][vocab_ / 2] += 60;
    return x.to(dtype_);
  }
  double tolerance() const { return dtype_ == torch::kFloat32 ? 1e-5 : 5e-3; }
};

Distribution distribution(const torch::Tensor& logits) { return {logits, log_sum_exp(logits)}; }

TEST_P(Softmax, SumsAreThoseOfFloat64) {
  const torch::Tensor x = random();
  EXPECT_TRUE(torch::allclose(log_sum_exp(x).to(torch::kFloat64),
                              torch::logsumexp(x.to(torch::kFloat64), 1), 1e-6, 1e-5));
}

// The losses are written out and differentiated by autograd in float64.
TEST_P(Softmax, GradientIsThatOfCrossEntropyAndDivergence) {
  const torch::Tensor x = random(), y = random();
  const torch::Tensor exact = x.to(torch::kFloat64).requires_grad_();
  const torch::Tensor log_p = torch::log_softmax(exact, -1);
  const torch::Tensor log_q = torch::log_softmax(y.to(torch::kFloat64), -1);
  const torch::Tensor targets = torch::randint(vocab_, {5}, torch::kInt64).unsqueeze(1);
  const torch::Tensor divergence = (log_q.exp() * (log_q - log_p)).sum(1);
  const torch::Tensor loss = 0.3 * -log_p.gather(1, targets).sum() + 0.7 * divergence.sum();
  const torch::Tensor expected = torch::autograd::grad({loss}, {exact})[0];

  const SoftmaxGradient found =
      softmax_gradient(distribution(x), torch::ones({5}), distribution(y), 0.7);
  EXPECT_EQ(found.gradient.scalar_type(), dtype_);
  const torch::Tensor gradient =
      found.gradient.to(torch::kFloat64)
          .scatter_add(1, targets, torch::full({5, 1}, -0.3, torch::kFloat64));
  EXPECT_LT((gradient - expected).norm().item<double>(),
            tolerance() * expected.norm().item<double>());
  EXPECT_TRUE(
      torch::allclose(found.divergence.to(torch::kFloat64), divergence.detach(), 1e-4, 1e-4));
}

TEST_P(Softmax, AgreesWithItsReference) {
  const torch::Tensor weights = torch::rand({5});
  const Distribution p = distribution(random()), q = distribution(random());
  for (const std::optional<Distribution>& other :
       {std::optional<Distribution>(), std::optional(q)}) {
    const SoftmaxGradient found = softmax_gradient(p, weights, other, 0.4);
    const SoftmaxGradient expected = softmax_gradient_reference(p, weights, other, 0.4);
    EXPECT_TRUE(torch::allclose(found.gradient, expected.gradient, 2 * tolerance(), 1e-6));
    EXPECT_TRUE(torch::allclose(found.divergence, expected.divergence, 1e-4, 1e-4));
  }
}

TEST_P(Softmax, OneDistributionDoesNotDivergeFromItself) {
  const Distribution p = distribution(random());
  const SoftmaxGradient found = softmax_gradient(p, torch::ones({5}), p, 1.0);
  EXPECT_EQ(found.divergence.abs().max().item<float>(), 0.0F);
  EXPECT_EQ(found.gradient.abs().max().item<float>(), 0.0F);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Softmax,
                         testing::Combine(testing::Values(torch::kFloat32, torch::kBFloat16),
                                          testing::Values(3, 7, 264, 5000)));

TEST(SoftmaxChecks, RefuseWhatDoesNotFit) {
  const Distribution p = distribution(torch::randn({3, 8}));
  EXPECT_THROW(log_sum_exp(torch::randn({8})), c10::ValueError);
  EXPECT_THROW(softmax_gradient(p, torch::ones({4})), c10::ValueError);
  EXPECT_THROW(softmax_gradient(p, torch::ones({3}), distribution(torch::randn({3, 9})), 1.0),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
