#include "schmidt/tn/gauss_newton.h"

#include <ATen/Context.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/tn/als.h"
#include "schmidt/tn/weighted_low_rank.h"
#include "schmidt/tn/weighted_tt_svd.h"

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

using Bonds = std::vector<int64_t>;

const SiteShape kTwoSites{{6, 4}, {5, 6}};          // 24 x 30
const SiteShape kThreeSites{{4, 3, 2}, {2, 3, 5}};  // 24 x 30
const SiteShape kLowRank = low_rank_shape(24, 30);

/// Of 24 x 30, whole and singular.
std::vector<MomentNorm> norms() {
  const torch::Tensor g = random_moments(30, 30, 3), h = random_moments(24, 24, 2);
  return {{}, {g, {}}, {{}, h}, {g, h}, {random_moments(30, 7), random_moments(24, 9)}};
}

torch::Tensor dense(const std::vector<Mpo>& terms) {
  torch::Tensor sum = dense_by_definition(terms.front());
  for (size_t i = 1; i < terms.size(); ++i) sum = sum + dense_by_definition(terms[i]);
  return sum;
}

Mpo truncated(const torch::Tensor& w, const SiteShape& shape, const Bonds& bonds) {
  return factorize(w, {.shape = shape, .max_bonds = bonds}).mpo;
}

TEST(GaussNewton, NeverRaisesTheErrorOfAnySum) {
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const Mpo two = truncated(w, kTwoSites, {7}), three = truncated(w, kThreeSites, {4, 5}),
            low = truncated(w, kLowRank, {3});
  for (const MomentNorm& norm : norms()) {
    for (const std::vector<Mpo>& start :
         std::vector<std::vector<Mpo>>{{two}, {three}, {low}, {low, two}, {three, two, low}}) {
      const GaussNewtonResult r =
          gauss_newton(w, start, norm, {.rounds = 4, .tolerance = 0, .cg_steps = 30});
      ASSERT_EQ(r.terms.size(), start.size());
      EXPECT_NEAR(r.errors[0], weighted_error(w, dense(start), norm), 1e-9);
      for (size_t i = 1; i < r.errors.size(); ++i) {
        EXPECT_LE(r.errors[i], r.errors[i - 1] * (1 + 1e-6) + 1e-4);
      }
      EXPECT_LE(r.relative_error, r.errors[0]);
      if (norm.input.defined()) {
        EXPECT_LT(r.relative_error, r.errors[0]);  // the start was made in another norm
      }
      EXPECT_NEAR(r.relative_error, weighted_error(w, dense(r.terms), norm), 1e-9);
      for (size_t i = 0; i < start.size(); ++i) {
        EXPECT_EQ(r.terms[i].shape(), start[i].shape());
        for (size_t k = 0; k < start[i].bonds().size(); ++k) {
          EXPECT_LE(r.terms[i].bonds()[k], start[i].bonds()[k]);
        }
      }
    }
  }
}

TEST(GaussNewton, ReachesTheWeightedOptimumOfLowRank) {
  at::manual_seed(7);
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  for (const MomentNorm& norm : norms()) {
    const double best = weighted_low_rank(w, norm, {.rank = 6}).relative_error;
    const GaussNewtonResult r =
        gauss_newton(w, {truncated(w, kLowRank, {6})}, norm,
                     {.rounds = 100, .tolerance = 1e-7, .cg_steps = 60, .cg_tolerance = 1e-8});
    EXPECT_LE(r.relative_error, best * 1.001 + 1e-4);
    EXPECT_GE(r.relative_error, best - 1e-7);
  }
}

/// No change of all cores together lowers the error any further: the gradient vanishes.
TEST(GaussNewton, EndsAtAStationaryPoint) {
  at::manual_seed(7);
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const MomentNorm norm{random_moments(30, 30, 2), random_moments(24, 24, 1)};
  const GaussNewtonResult r =
      gauss_newton(w, {truncated(w, kLowRank, {3}), truncated(w, kThreeSites, {4, 5})}, norm,
                   {.rounds = 300, .tolerance = 1e-9, .cg_steps = 100, .cg_tolerance = 1e-8});
  std::vector<Mpo> terms;
  for (const Mpo& term : r.terms) {
    std::vector<torch::Tensor> cores;
    for (const torch::Tensor& core : term.cores()) {
      cores.push_back(core.clone().requires_grad_(true));
    }
    terms.emplace_back(cores);
  }
  const torch::Tensor d = w - dense(terms);
  const torch::Tensor loss = (at::mm(norm.output, d) * at::mm(d, norm.input)).sum();
  loss.backward();
  for (const Mpo& term : terms) {
    for (const torch::Tensor& core : term.cores()) {
      EXPECT_LT((core.grad().norm() * core.norm()).item<double>(), 1e-2 * loss.item<double>());
    }
  }
}

TEST(GaussNewton, RecoversASumOfNetworks) {
  at::manual_seed(7);
  const MomentNorm norm{random_moments(30, 30, 1), random_moments(24, 24, 1)};
  const std::vector<Mpo> truth = {random_mpo(kLowRank, {2}), random_mpo(kTwoSites, {2})};
  const std::vector<Mpo> start = {random_mpo(kLowRank, {2}), random_mpo(kTwoSites, {2})};
  const torch::Tensor w = dense(truth);
  const GaussNewtonResult r = gauss_newton(
      w, start, norm, {.rounds = 300, .tolerance = 0, .cg_steps = 100, .cg_tolerance = 1e-10});
  EXPECT_LT(relative_difference(dense(r.terms), w), 1e-6);
}

/// One round and one sweep of two sites take equal numbers of products with G and H.
TEST(GaussNewton, IsAheadOfAlternatingSweeps) {
  at::manual_seed(7);
  double ahead = 0;
  for (int trial = 0; trial < 8; ++trial) {
    const torch::Tensor w = at::randn({24, 30}, at::kDouble);
    const MomentNorm norm{random_moments(30, 30, 3), random_moments(24, 24, 2)};
    const Mpo start = weighted_tt_svd(w, {.shape = kTwoSites, .max_bonds = Bonds{9}}, norm).mpo;
    const double alternating =
        als(w, start, norm, {.sweeps = 4, .tolerance = 0, .cg_steps = 20}).relative_error;
    const double together =
        gauss_newton(w, {start}, norm, {.rounds = 4, .tolerance = 0, .cg_steps = 40})
            .relative_error;
    ahead += std::log(alternating / together);
  }
  EXPECT_GT(ahead, 0);
}

TEST(GaussNewton, GivesUpWhatCannotWin) {
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const std::vector<Mpo> start = {random_mpo(kTwoSites, {4})};
  const GaussNewtonResult r =
      gauss_newton(w, start, {}, {.rounds = 50, .tolerance = 0, .to_beat = 1e-3});
  EXPECT_TRUE(r.gave_up);
  const size_t rounds = r.errors.size() - 1;
  ASSERT_GE(rounds, 1U);
  ASSERT_LT(rounds, 50U);
  EXPECT_GT(2 * r.errors[rounds] - r.errors[rounds - 1], 1e-3);
  for (size_t i = 1; i < rounds; ++i) EXPECT_LE(2 * r.errors[i] - r.errors[i - 1], 1e-3);
  EXPECT_FALSE(gauss_newton(w, start, {}, {.rounds = 2}).gave_up);
}

TEST(GaussNewton, KeepsDtypeAndScale) {
  const torch::Tensor w = at::randn({24, 30});
  const MomentNorm norm{random_moments(30, 30, 3).to(at::kFloat),
                        random_moments(24, 24, 2).to(at::kFloat)};
  const std::vector<Mpo> start = {truncated(w, kTwoSites, {7})};
  const GaussNewtonResult r = gauss_newton(w, start, norm);
  EXPECT_EQ(r.terms[0].cores()[0].scalar_type(), at::kFloat);
  EXPECT_NEAR(weighted_error(w, dense(r.terms), norm), r.relative_error, 1e-5);
  std::vector<torch::Tensor> wide;
  for (const torch::Tensor& core : start[0].cores()) wide.push_back(core.to(at::kDouble));
  const GaussNewtonResult exact = gauss_newton(w.to(at::kDouble), {Mpo(wide)}, norm);
  EXPECT_NEAR(exact.relative_error, r.relative_error, 2e-3);
  const GaussNewtonResult tiny = gauss_newton(w * 1e-30, {truncated(w * 1e-30, kTwoSites, {7})},
                                              {norm.input * 1e30, norm.output * 1e-20});
  EXPECT_NEAR(tiny.relative_error, r.relative_error, 1e-3);
}

TEST(GaussNewton, OfZeros) {
  const Mpo zeros({at::zeros({1, 6, 5, 2}), at::zeros({2, 4, 6, 1})});
  const GaussNewtonResult none = gauss_newton(at::zeros({24, 30}), {zeros}, {});
  EXPECT_EQ(none.relative_error, 0);
  const torch::Tensor w = at::randn({24, 30});
  EXPECT_NEAR(gauss_newton(w, {zeros}, {}).relative_error, 1, 1e-6);  // a saddle
  const MomentNorm blind{at::zeros({30, 30}), {}};
  EXPECT_EQ(gauss_newton(w, {zeros}, blind).relative_error, 0);
}

TEST(GaussNewton, RefusesWhatDoesNotFit) {
  torch::Tensor w = at::randn({24, 30});
  const Mpo start = random_mpo(kTwoSites, {2}, at::kFloat);
  EXPECT_THROW(gauss_newton(w, {}, {}), c10::ValueError);
  EXPECT_THROW(gauss_newton(w, {start, random_mpo({{6, 4}, {5, 5}}, {2})}, {}), c10::ValueError);
  EXPECT_THROW(gauss_newton(w, {start}, {}, {.rounds = -1}), c10::ValueError);
  EXPECT_THROW(gauss_newton(w, {start}, {}, {.cg_steps = 0}), c10::ValueError);
  w[0][0] = NAN;
  EXPECT_THROW(gauss_newton(w, {start}, {}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::tn
