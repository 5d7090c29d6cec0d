#include "schmidt/tn/mpo.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

struct Network {
  SiteShape shape;
  std::vector<int64_t> bonds;
};

const std::vector<Network>& networks() {
  static const std::vector<Network> all{
      {{{7}, {5}}, {}},                           // one site: a plain matrix
      {{{12, 1}, {1, 10}}, {4}},                  // low rank
      {{{4, 3}, {5, 2}}, {6}},                    //
      {{{2, 6}, {6, 2}}, {3}},                    // a sweep from the left is cheaper
      {{{4, 3, 2}, {2, 3, 4}}, {5, 6}},           //
      {{{1, 5, 3}, {4, 1, 2}}, {3, 4}},           // sites without an output, an input
      {{{2, 3, 2, 2}, {3, 2, 2, 3}}, {4, 7, 3}},  //
  };
  return all;
}

TEST(Mpo, DescribesItself) {
  const Mpo mpo = random_mpo({{4, 3, 2}, {2, 3, 4}}, {5, 6});
  EXPECT_EQ(mpo.shape(), (SiteShape{{4, 3, 2}, {2, 3, 4}}));
  EXPECT_EQ(mpo.bonds(), (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(mpo.rows(), 24);
  EXPECT_EQ(mpo.cols(), 24);
  EXPECT_EQ(mpo.numel(), parameter_count(mpo.shape(), mpo.bonds()));
}

TEST(Mpo, SiteOneIsTheMostSignificantDigit) {
  torch::Tensor first = at::zeros({1, 2, 3, 1}), second = at::zeros({1, 5, 7, 1});
  first[0][1][2][0] = 1;
  second[0][3][4][0] = 1;
  const torch::Tensor w = Mpo({first, second}).to_dense();
  EXPECT_EQ(w.sum().item<float>(), 1);
  EXPECT_EQ(w[1 * 5 + 3][2 * 7 + 4].item<float>(), 1);
}

TEST(Mpo, RefusesWhatIsNoChain) {
  auto core = [](int64_t a, int64_t m, int64_t n, int64_t b) { return at::zeros({a, m, n, b}); };
  EXPECT_THROW(Mpo({}), c10::ValueError);
  EXPECT_THROW(Mpo({torch::Tensor()}), c10::ValueError);
  EXPECT_THROW(Mpo({at::zeros({2, 3})}), c10::ValueError);
  EXPECT_THROW(Mpo({core(1, 2, 2, 3), core(4, 2, 2, 1)}), c10::ValueError);
  EXPECT_THROW(Mpo({core(2, 2, 2, 1)}), c10::ValueError);
  EXPECT_THROW(Mpo({core(1, 2, 2, 2)}), c10::ValueError);
  EXPECT_THROW(Mpo({core(1, 0, 2, 1)}), c10::ValueError);
  EXPECT_THROW(Mpo({core(1, 2, 2, 1), core(1, 2, 2, 1).to(at::kDouble)}), c10::ValueError);
  EXPECT_THROW(Mpo({core(1, 2, 2, 1).to(at::kInt)}), c10::ValueError);
}

TEST(Apply, EqualsTheDenseProduct) {
  at::NoGradGuard no_grad;
  for (const Network& network : networks()) {
    const Mpo mpo = random_mpo(network.shape, network.bonds);
    const torch::Tensor w = dense_by_definition(mpo);
    for (int64_t rows : {1, 3, 15, 16, 64}) {
      const torch::Tensor x = at::randn({rows, mpo.cols()}, at::kDouble);
      for (bool form_matrix : {false, true}) {
        const torch::Tensor y = mpo.apply(x, {.form_matrix = form_matrix});
        EXPECT_LT(relative_difference(y, at::linear(x, w)), 1e-13);
        EXPECT_TRUE(y.is_contiguous());
      }
    }
  }
}

TEST(Apply, KeepsLeadingDimensionsAndTakesViews) {
  const Mpo mpo = random_mpo({{4, 3}, {5, 2}}, {6});
  const torch::Tensor x = at::randn({10, 3, 2}, at::kDouble).permute({2, 1, 0});
  EXPECT_LT(relative_difference(mpo.apply(x), at::linear(x, mpo.to_dense())), 1e-13);
  EXPECT_EQ(mpo.apply(x[0][0]).sizes(), std::vector<int64_t>{12});
  EXPECT_EQ(mpo.apply(x.slice(0, 0, 0)).sizes(), (std::vector<int64_t>{0, 3, 12}));
}

TEST(Apply, InLowerPrecision) {
  at::NoGradGuard no_grad;
  for (const Network& network : networks()) {
    for (const auto& [dtype, tolerance] : {std::pair(at::kFloat, 1e-5), {at::kBFloat16, 2e-2}}) {
      const Mpo mpo = random_mpo(network.shape, network.bonds, dtype);
      std::vector<torch::Tensor> exact;
      for (const torch::Tensor& core : mpo.cores()) exact.push_back(core.to(at::kDouble));
      for (int64_t rows : {1, 64}) {
        const torch::Tensor x = at::randn({rows, mpo.cols()}).to(dtype);
        const torch::Tensor y = mpo.apply(x);
        EXPECT_EQ(y.scalar_type(), dtype);
        EXPECT_LT(relative_difference(y, Mpo(exact).apply(x.to(at::kDouble))), tolerance);
      }
    }
  }
}

/// Gradients of a loss that weights every output differently, for x and all cores.
template <typename Forward>
std::vector<torch::Tensor> gradients(const Mpo& mpo, const torch::Tensor& x, Forward forward) {
  std::vector<torch::Tensor> leaves{x.detach().clone().requires_grad_(true)};
  for (const torch::Tensor& core : mpo.cores()) {
    leaves.push_back(core.detach().clone().requires_grad_(true));
  }
  const Mpo copy(std::vector<torch::Tensor>(leaves.begin() + 1, leaves.end()));
  const torch::Tensor y = forward(copy, leaves[0]);
  (y * at::arange(y.numel(), y.options()).view(y.sizes()).sin()).sum().backward();
  for (torch::Tensor& leaf : leaves) leaf = leaf.grad();
  return leaves;
}

TEST(Apply, HasTheGradientsOfTheDenseProduct) {
  for (const Network& network : networks()) {
    const Mpo mpo = random_mpo(network.shape, network.bonds);
    for (int64_t rows : {1, 3, 40}) {
      const torch::Tensor x = at::randn({rows, mpo.cols()}, at::kDouble);
      const auto expected = gradients(mpo, x, [](const Mpo& w, const torch::Tensor& input) {
        return at::linear(input, dense_by_definition(w));
      });
      for (bool form_matrix : {false, true}) {
        const auto got = gradients(mpo, x, [&](const Mpo& w, const torch::Tensor& input) {
          return w.apply(input, {.form_matrix = form_matrix});
        });
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_LT(relative_difference(got[i], expected[i]), 1e-12) << "leaf " << i;
        }
      }
    }
  }
}

TEST(Apply, ManyRowsInPartsEqualTheWhole) {
  // 4001 rows * 8 * 8 * 32 scalars are beyond one part.
  const Mpo mpo = random_mpo({{8, 8}, {8, 8}}, {32});
  const torch::Tensor x = at::randn({4001, 64}, at::kDouble);
  {
    at::NoGradGuard no_grad;
    EXPECT_LT(relative_difference(mpo.apply(x), at::linear(x, mpo.to_dense())), 1e-13);
  }
  const auto expected = gradients(mpo, x, [](const Mpo& w, const torch::Tensor& input) {
    return at::linear(input, dense_by_definition(w));
  });
  const auto got =
      gradients(mpo, x, [](const Mpo& w, const torch::Tensor& input) { return w.apply(input); });
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LT(relative_difference(got[i], expected[i]), 1e-12) << "leaf " << i;
  }
}

TEST(Apply, GivesGradientsOnlyWhereAskedFor) {
  const Mpo mpo = random_mpo({{4, 3, 2}, {2, 3, 4}}, {5, 6});
  std::vector<torch::Tensor> cores = mpo.cores();
  cores[1] = cores[1].clone().requires_grad_(true);
  const torch::Tensor x = at::randn({20, 24}, at::kDouble);
  Mpo(cores).apply(x).sum().backward();
  EXPECT_TRUE(cores[1].grad().defined());
  EXPECT_FALSE(x.grad().defined());
  EXPECT_FALSE(cores[0].grad().defined());

  const torch::Tensor leaf = x.clone().requires_grad_(true);
  mpo.apply(leaf).sum().backward();
  EXPECT_LT(relative_difference(leaf.grad(), mpo.to_dense().sum(0).expand({20, 24})), 1e-13);
}

TEST(Apply, HasTheGradientsOfFiniteDifferences) {
  const Mpo mpo = random_mpo({{4, 3, 2}, {2, 3, 4}}, {5, 6});
  const torch::Tensor x = at::randn({20, 24}, at::kDouble);
  auto loss = [&](const std::vector<torch::Tensor>& cores) {
    return Mpo(cores).apply(x).square().sum();
  };
  constexpr double kStep = 1e-5;
  for (size_t k = 0; k < 3; ++k) {
    std::vector<torch::Tensor> cores;
    for (const torch::Tensor& core : mpo.cores()) cores.push_back(core.clone());
    const torch::Tensor direction = at::randn_like(cores[k]);
    auto shifted = [&](double by) {
      std::vector<torch::Tensor> moved = cores;
      moved[k] = cores[k] + by * direction;
      return loss(moved).item<double>();
    };
    const double numeric = (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
    cores[k].requires_grad_(true);
    loss(cores).backward();
    const double exact = (cores[k].grad() * direction).sum().item<double>();
    EXPECT_NEAR(exact / numeric, 1, 1e-7) << "core " << k;
  }
}

TEST(Apply, RefusesWhatDoesNotFit) {
  const Mpo mpo = random_mpo({{4, 3}, {5, 2}}, {6});
  EXPECT_THROW(mpo.apply(at::zeros({3, 11}, at::kDouble)), c10::ValueError);
  EXPECT_THROW(mpo.apply(at::zeros({3, 10}, at::kFloat)), c10::ValueError);
  EXPECT_THROW(mpo.apply(at::zeros({}, at::kDouble)), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::tn
