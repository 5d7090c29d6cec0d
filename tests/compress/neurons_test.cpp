#include "schmidt/compress/neurons.h"

#include <numeric>
#include <set>

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

namespace schmidt::compress {
namespace {

torch::Tensor random(std::vector<int64_t> shape, uint64_t seed) {
  return torch::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), torch::kFloat64);
}

torch::Tensor moments(int64_t n, uint64_t seed) {
  const torch::Tensor x = random({3 * n, n}, seed) * (random({n}, seed + 1).abs() + 0.1);
  return x.t().matmul(x) / x.size(0);
}

/// A down projection of n neurons, with both sides' moments.
struct Case {
  explicit Case(int64_t n, int64_t m = 6)
      : w(random({m, n}, 1)), g(moments(n, 2)), h(moments(m, 3)), b(w.t().matmul(h).matmul(w)) {}

  double loss(const torch::Tensor& fitted) const {
    const torch::Tensor error = w - fitted;
    return (h.matmul(error).matmul(g) * error).sum().item<double>();
  }

  double loss(const std::vector<int64_t>& kept) const { return loss(repaired(w, g, kept)); }

  torch::Tensor w, g, h, b;
};

TEST(RepairedDown, IsTheLeastSquaresFitOfTheNeuronsThatAreKept) {
  const Case c(10);
  const std::vector<int64_t> kept = {1, 4, 5, 9};
  const torch::Tensor fitted = repaired(c.w, c.g, kept);
  // Inputs whose moments are G: its root's columns.
  const torch::Tensor x = torch::linalg_cholesky(c.g);  // [neurons, samples]
  const torch::Tensor ids = torch::tensor(kept);
  const torch::Tensor wanted = c.w.matmul(x);
  const torch::Tensor solved = std::get<0>(
      torch::linalg_lstsq(x.index_select(0, ids).t().contiguous(), wanted.t().contiguous()));
  EXPECT_TRUE(torch::allclose(fitted.index_select(1, ids), solved.t(), 1e-8, 1e-8));
  EXPECT_EQ(fitted.count_nonzero().item<int64_t>(), 6 * 4);
}

TEST(OrderNeurons, TakesTheBestAtEachStepAndKnowsWhatIsLost) {
  const Case c(12);
  const NeuronOrder order = order_neurons(c.g, c.b, 12);
  ASSERT_EQ(order.neurons.size(), 12U);
  EXPECT_NEAR(order.losses.front(), c.loss(torch::zeros_like(c.w)), 1e-9 * order.losses.front());
  std::vector<int64_t> kept;
  for (size_t k = 0; k < order.neurons.size(); ++k) {
    double best = std::numeric_limits<double>::infinity();
    for (int64_t other = 0; other < 12; ++other) {
      if (std::ranges::find(kept, other) != kept.end()) continue;
      std::vector<int64_t> tried = kept;
      tried.push_back(other);
      best = std::min(best, c.loss(tried));
    }
    kept.push_back(order.neurons[k]);
    // A ridge of 1e-5 keeps equal neurons apart.
    EXPECT_NEAR(c.loss(kept), best, 1e-3 * order.losses.front()) << k;
    EXPECT_NEAR(order.losses[k + 1], c.loss(kept), 1e-3 * order.losses.front()) << k;
  }
}

// What is left is brought up to date only once in many steps.
TEST(OrderNeurons, KnowsWhatIsLostAfterHundredsOfSteps) {
  const Case c(200, 90);
  const NeuronOrder order = order_neurons(c.g, c.b, 190);
  for (const int64_t k : {1, 63, 64, 65, 128, 129, 150, 190}) {
    const std::vector<int64_t> kept(order.neurons.begin(), order.neurons.begin() + k);
    EXPECT_NEAR(order.losses[static_cast<size_t>(k)], c.loss(kept), 1e-3 * order.losses.front())
        << k;
  }
}

// In the numbers that a compression computes with, of fewer tokens than neurons.
TEST(OrderNeurons, IsAsGoodInFloat32) {
  Case c(240, 120);
  const torch::Tensor x = random({150, 240}, 5) * torch::logspace(0, -2, 240, 10, torch::kDouble);
  c.g = x.t().matmul(x) / 150 + 1e-6 * torch::eye(240, torch::kDouble);
  const NeuronOrder wide = order_neurons(c.g, c.b, 204);
  const NeuronOrder order = order_neurons(c.g.to(torch::kFloat32), c.b.to(torch::kFloat32), 204);
  for (const int64_t k : {60, 120, 168, 204}) {
    const auto loss = [&](const NeuronOrder& of) {
      return c.loss(std::vector<int64_t>(of.neurons.begin(), of.neurons.begin() + k));
    };
    EXPECT_NEAR(loss(order), loss(wide), 0.02 * loss(wide)) << k;
  }
}

TEST(OrderNeurons, LeavesEqualAndSilentNeuronsForTheEnd) {
  Case c(9);
  for (torch::Tensor* side : {&c.g, &c.b}) {  // 7 says what 2 says, 8 nothing
    for (const int64_t dim : {0, 1}) {
      side->select(dim, 7).copy_(side->select(dim, 2).clone());
      side->select(dim, 8).zero_();
    }
  }
  const NeuronOrder order = order_neurons(c.g, c.b, 9);
  std::vector<int64_t> last(order.neurons.end() - 2, order.neurons.end());
  EXPECT_TRUE(std::ranges::find(last, 8) != last.end());
  EXPECT_TRUE(std::ranges::find(last, 7) != last.end() || std::ranges::find(last, 2) != last.end());
  EXPECT_NEAR(order.losses[7], 0.0, 1e-3 * order.losses.front());
}

// A text of one token.
TEST(OrderNeurons, MomentsOfRankOneAreEnough) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    const Case c(128);
    const torch::Tensor x = random({1, 128}, 4) * torch::logspace(-3, 2, 128, 10, torch::kDouble);
    const torch::Tensor g = x.t().matmul(x).to(dtype);
    const NeuronOrder order = order_neurons(g, c.b.to(dtype), 64);
    EXPECT_EQ(order.neurons.size(), 64U);
    EXPECT_TRUE(repaired(c.w.to(dtype), g, order.neurons).isfinite().all().item<bool>());
  }
}

// Where n is large several are taken at once, which finds nearly as much.
TEST(OrderNeurons, SeveralAtOnceAreNearlyAsGood) {
  const Case c(1600, 40);
  const NeuronOrder order = order_neurons(c.g, c.b, 24);
  ASSERT_EQ(order.neurons.size(), 24U);
  EXPECT_EQ(std::set<int64_t>(order.neurons.begin(), order.neurons.end()).size(), 24U);
  const double found = c.loss(order.neurons);
  EXPECT_NEAR(order.losses.back(), found, 1e-2 * order.losses.front());
  std::vector<int64_t> first(24);
  std::iota(first.begin(), first.end(), 0);
  EXPECT_LT(found, c.loss(first));
}

TEST(NeuronStep, DividesTheNeuronsAndLeavesManyCounts) {
  EXPECT_EQ(neuron_step(1536), 64);
  EXPECT_EQ(neuron_step(11008), 64);
  EXPECT_EQ(neuron_step(36), 2);
  EXPECT_EQ(neuron_step(7), 1);
}

}  // namespace
}  // namespace schmidt::compress
