#include "schmidt/tn/drift.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/tn/positive.h"
#include "schmidt/tn/weighted_low_rank.h"

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

torch::Tensor dense(const LowRank& f) { return at::mm(f.left, f.right); }

TEST(DriftMap, IsTheBestMapFromTheChangedInputs) {
  const torch::Tensor x = at::randn({400, 30}, at::kDouble);
  const torch::Tensor changed =
      at::mm(x, at::eye(30, at::kDouble) + 0.1 * at::randn({30, 30}, at::kDouble)) +
      0.1 * at::randn({400, 30}, at::kDouble);
  const torch::Tensor w = at::randn({20, 30}, at::kDouble);
  const torch::Tensor cross = at::mm(x.t(), changed) / 400,
                      moments = at::mm(changed.t(), changed) / 400;
  const torch::Tensor target = DriftMap(cross, moments, {.ridge = 1e-12}).apply(w);
  // The residual of a least-squares fit is orthogonal to its inputs.
  const torch::Tensor residual = at::mm(x, w.t()) - at::mm(changed, target.t());
  EXPECT_LT(at::mm(residual.t(), changed).abs().max().item<double>(), 1e-6);

  // Approximations of it in the norm G' are those of W x from x'.
  auto loss = [&](const torch::Tensor& a) {
    return (at::mm(x, w.t()) - at::mm(changed, a.t())).square().sum().item<double>() / 400;
  };
  const torch::Tensor cut = dense(weighted_low_rank(target, {.input = moments}, {.rank = 5}));
  EXPECT_NEAR(loss(cut) - loss(target), squared_norm(target - cut, {.input = moments}), 1e-8);
  const torch::Tensor other = dense(weighted_low_rank(w, {.input = moments}, {.rank = 5}));
  EXPECT_LT(loss(cut), loss(other));

  const torch::Tensor half = DriftMap(cross, moments, {.beta = 0.5, .ridge = 1e-12}).apply(w);
  EXPECT_LT(relative_difference(half, (w + target) / 2), 1e-12);
  EXPECT_TRUE(DriftMap(cross, moments, {.beta = 0}).apply(w).equal(w));
}

TEST(DriftMap, KeepsTheWeightWhereTheInputsSayNothing) {
  const torch::Tensor w = at::randn({20, 30}, at::kDouble), g = random_moments(30, 6, 1);
  EXPECT_LT(relative_difference(DriftMap(g, g).apply(w), w), 1e-14);
  EXPECT_LT(
      relative_difference(
          DriftMap(at::zeros({30, 30}, at::kDouble), at::zeros({30, 30}, at::kDouble)).apply(w), w),
      1e-14);
  const torch::Tensor target = DriftMap(0.5 * g, g, {.ridge = 1e-9}).apply(w);
  const torch::Tensor inverse = positive_root(g).inverse;
  const torch::Tensor projector = at::mm(g, at::mm(inverse, inverse.t()));
  const torch::Tensor unseen = at::eye(30, at::kDouble) - projector;
  EXPECT_LT((at::mm(target - w, unseen)).abs().max().item<double>(), 1e-5);
  EXPECT_THROW(DriftMap(g, g, {.beta = 1.5}).apply(w), c10::ValueError);
  EXPECT_THROW(DriftMap(g, g, {.ridge = 0}).apply(w), c10::ValueError);
  EXPECT_THROW(DriftMap({}, g), c10::ValueError);
  EXPECT_THROW(DriftMap(random_moments(20, 20), g), c10::ValueError);
  EXPECT_THROW(DriftMap(g, g).apply(w.t()), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::tn
