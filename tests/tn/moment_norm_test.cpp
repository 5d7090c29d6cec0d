#include "schmidt/tn/moment_norm.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/tn/positive.h"

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

TEST(MomentNorm, SquaredNormIsTheTraceItIsDefinedBy) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const torch::Tensor d = at::randn({30, 700}, at::kDouble).to(dtype);  // several blocks of G
    const torch::Tensor g = random_moments(700, 700).to(dtype), h = random_moments(30, 30);
    for (const MomentNorm& norm :
         {MomentNorm{}, MomentNorm{g, {}}, MomentNorm{{}, h}, MomentNorm{g, h}}) {
      const double expected = whitened(d, norm).square().sum().item<double>();
      EXPECT_NEAR(squared_norm(d, norm) / expected, 1, dtype == at::kDouble ? 1e-12 : 1e-6);
    }
  }
}

TEST(MomentNorm, IsTheMeanSquareErrorAtTheOutputs) {
  const torch::Tensor x = at::randn({50, 20}, at::kDouble), d = at::randn({8, 20}, at::kDouble);
  const MomentNorm norm{.input = at::mm(x.t(), x) / 50};
  EXPECT_NEAR(squared_norm(d, norm), at::mm(x, d.t()).square().sum().item<double>() / 50, 1e-10);
}

TEST(MomentNorm, WeightedErrorOfNothingIsOneAndOfEverythingZero) {
  const torch::Tensor w = at::randn({12, 9});
  const MomentNorm norm{random_moments(9, 4), random_moments(12, 5)};
  EXPECT_NEAR(weighted_error(w, at::zeros({12, 9}), norm), 1, 1e-12);
  EXPECT_EQ(weighted_error(w, w, norm), 0);
  EXPECT_EQ(weighted_error(at::zeros({12, 9}), at::zeros({12, 9}), norm), 0);
  EXPECT_EQ(weighted_error(w, w, {.input = at::zeros({9, 9})}), 0);
}

TEST(MomentNorm, LargeSinglePrecisionMatricesKeepTheirAccuracy) {
  const torch::Tensor d = at::randn({1100, 1024});  // products in float32
  const torch::Tensor g = at::mm(d.t(), d) / 1100;
  const double expected =
      at::mm(d.to(at::kDouble), g.to(at::kDouble)).mul_(d.to(at::kDouble)).sum().item<double>();
  EXPECT_NEAR(squared_norm(d, {.input = g}) / expected, 1, 1e-6);
}

TEST(MomentNorm, RefusesWhatDoesNotFit) {
  torch::Tensor d = at::randn({12, 9});
  const torch::Tensor g = random_moments(9, 9);
  EXPECT_THROW(squared_norm(d, {.input = random_moments(8, 8)}), c10::ValueError);
  EXPECT_THROW(squared_norm(d, {.output = g}), c10::ValueError);
  EXPECT_THROW(squared_norm(d.flatten(), {}), c10::ValueError);
  EXPECT_THROW(squared_norm(d.to(at::kInt), {}), c10::ValueError);
  EXPECT_THROW(weighted_error(d, at::zeros({9, 12}), {}), c10::ValueError);
  torch::Tensor bad = g.clone();
  bad[2][3] = NAN;
  EXPECT_THROW(squared_norm(d, {.input = bad}), c10::ValueError);
  d[1][1] = INFINITY;
  EXPECT_THROW(squared_norm(d, {.input = g}), c10::ValueError);
}

TEST(PositiveRoot, HasTheRankOfItsMatrix) {
  for (const int64_t rank : {1, 5, 20}) {
    const torch::Tensor a = random_moments(20, rank);
    const PositiveRoot f = positive_root(a);
    EXPECT_EQ(f.root.size(1), rank);
    EXPECT_LT(relative_difference(at::mm(f.root, f.root.t()), a), 1e-13);
    EXPECT_LT(relative_difference(at::mm(f.root.t(), f.inverse), at::eye(rank, at::kDouble)),
              1e-10);
  }
  EXPECT_EQ(positive_root(at::zeros({4, 4}, at::kDouble)).root.abs().sum().item<double>(), 0);
}

TEST(RidgeSolver, SolvesSingularAndIndefiniteSystems) {
  const torch::Tensor b = at::randn({20, 3}, at::kDouble), one = at::eye(20, at::kDouble);
  const torch::Tensor a = random_moments(20, 20, 2);
  EXPECT_LT(relative_difference(at::mm(a, RidgeSolver(a, 1e-14).solve(b)), b), 1e-9);

  const torch::Tensor singular = random_moments(20, 6);
  const double ridge = 1e-3 * singular.diagonal().mean().item<double>();
  EXPECT_LT(
      relative_difference(at::mm(singular + ridge * one, RidgeSolver(singular, 1e-3).solve(b)), b),
      1e-10);
  // Rounding of moments summed in float32 may leave eigenvalues a little below 0.
  const torch::Tensor indefinite =
      singular - 1e-2 * ridge * one - at::diag_embed(2 * ridge * b.select(1, 0).abs());
  EXPECT_TRUE(RidgeSolver(indefinite, 1e-3).solve(b).isfinite().all().item<bool>());
  EXPECT_TRUE(RidgeSolver(at::zeros({20, 20}, at::kDouble), 1e-3).solve(b).equal(b));
}

}  // namespace
}  // namespace schmidt::tn
