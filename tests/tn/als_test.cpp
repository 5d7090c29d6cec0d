#include "schmidt/tn/als.h"

#include <ATen/Context.h>
#include <ATen/ops/kron.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/tn/weighted_low_rank.h"
#include "schmidt/tn/weighted_tt_svd.h"

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

using Bonds = std::vector<int64_t>;

const SiteShape kTwoSites{{6, 4}, {5, 6}};          // 24 x 30
const SiteShape kThreeSites{{4, 3, 2}, {2, 3, 5}};  // 24 x 30
const SiteShape kFourSites{{4, 3, 2, 1}, {1, 3, 5, 2}};
const SiteShape kLowRank = low_rank_shape(24, 30);

/// Of 24 x 30, whole and singular.
std::vector<MomentNorm> norms() {
  const torch::Tensor g = random_moments(30, 30, 3), h = random_moments(24, 24, 2);
  return {{},
          {g, {}},
          {{}, h},
          {g, h},
          {random_moments(30, 7), {}},
          {random_moments(30, 7), random_moments(24, 9)}};
}

TEST(SiteMoments, OfAKroneckerProductAreItsFactors) {
  const torch::Tensor a = random_moments(3, 3, 1), b = random_moments(4, 2, 1),
                      c = random_moments(5, 5, 1);
  const auto sites = site_moments(at::kron(at::kron(a, b), c), {3, 4, 5});
  ASSERT_EQ(sites.size(), 3);
  EXPECT_LT(relative_difference(sites[0], a / a.trace() * 3), 1e-12);
  EXPECT_LT(relative_difference(sites[1], b / b.trace() * 4), 1e-12);
  EXPECT_LT(relative_difference(sites[2], c / c.trace() * 5), 1e-12);
  EXPECT_TRUE(site_moments({}, {3, 4}).empty());
}

TEST(WeightedTtSvd, OfLowRankShapeIsTheOptimum) {
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  for (const MomentNorm& norm : norms()) {
    const Factorization f = weighted_tt_svd(w, {.shape = kLowRank, .max_bonds = Bonds{6}}, norm);
    EXPECT_NEAR(f.relative_error, weighted_low_rank(w, norm, {.rank = 6}).relative_error, 1e-5);
  }
}

/// Where the norm is a Kronecker product, the whitened cut is all there is to know.
TEST(WeightedTtSvd, OfTwoSitesInAKroneckerNormIsTheOptimum) {
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const MomentNorm norm{at::kron(random_moments(5, 5, 2), random_moments(6, 6, 2)),
                        at::kron(random_moments(6, 6, 1), random_moments(4, 4, 1))};
  const Factorization f = weighted_tt_svd(w, {.shape = kTwoSites, .max_bonds = Bonds{9}}, norm);
  const torch::Tensor unfolding =
      whitened(w, norm).reshape({6, 4, 5, 6}).permute({0, 2, 1, 3}).reshape({30, 24});
  const torch::Tensor s = at::linalg_svdvals(unfolding);
  EXPECT_NEAR(f.relative_error, (s.slice(0, 9).norm() / s.norm()).item<double>(), 1e-9);
}

TEST(Als, NeverRaisesTheError) {
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const std::vector<std::pair<SiteShape, Bonds>> cases{
      {kTwoSites, {7}}, {kThreeSites, {4, 5}}, {kFourSites, {3, 6, 2}}, {kLowRank, {5}}};
  for (const MomentNorm& norm : norms()) {
    for (const auto& [shape, bonds] : cases) {
      for (const int64_t direct_rows : {0, 10000}) {
        const Mpo start = factorize(w, {.shape = shape, .max_bonds = bonds}).mpo;
        const AlsResult r =
            als(w, start, norm, {.sweeps = 3, .tolerance = 0, .direct_rows = direct_rows});
        for (size_t i = 1; i < r.errors.size(); ++i) {
          EXPECT_LE(r.errors[i], r.errors[i - 1] * (1 + 1e-6) + 1e-7);
        }
        EXPECT_NEAR(r.errors[0], weighted_error(w, start.to_dense(), norm), 1e-12);
        EXPECT_NEAR(r.relative_error, weighted_error(w, r.mpo.to_dense(), norm), 1e-7);
        EXPECT_LE(r.relative_error, r.errors[0]);
        EXPECT_EQ(r.mpo.shape(), shape);
        for (size_t k = 0; k < bonds.size(); ++k) EXPECT_LE(r.mpo.bonds()[k], bonds[k]);
      }
    }
  }
}

/// No single core can lower the error any further: the gradient vanishes.
TEST(Als, EndsAtAStationaryPoint) {
  at::manual_seed(7);  // how slowly sweeps converge depends on the matrix
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const MomentNorm norm{random_moments(30, 30, 2), random_moments(24, 24, 1)};
  const AlsResult r =
      weighted_mpo(w, {.shape = kThreeSites, .max_bonds = Bonds{4, 5}}, norm,
                   {.sweeps = 200, .tolerance = 1e-8, .cg_steps = 200, .cg_tolerance = 1e-10});
  std::vector<torch::Tensor> cores;
  for (const torch::Tensor& core : r.mpo.cores())
    cores.push_back(core.clone().requires_grad_(true));
  const torch::Tensor d = w - dense_by_definition(Mpo(cores));
  const torch::Tensor loss = (at::mm(norm.output, d) * at::mm(d, norm.input)).sum();
  loss.backward();
  for (const torch::Tensor& core : cores) {
    EXPECT_LT((core.grad().norm() * core.norm()).item<double>(), 1e-2 * loss.item<double>());
  }
}

TEST(Als, ReachesTheWeightedOptimumOfLowRank) {
  at::manual_seed(7);
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  for (const MomentNorm& norm : norms()) {
    const double best = weighted_low_rank(w, norm, {.rank = 6}).relative_error;
    const Mpo plain = factorize(w, {.shape = kLowRank, .max_bonds = Bonds{6}}).mpo;
    const AlsResult r = als(w, plain, norm, {.sweeps = 300, .tolerance = 1e-7});
    EXPECT_LE(r.relative_error, best * 1.001 + 1e-4);
    EXPECT_GE(r.relative_error, best - 1e-7);
  }
}

TEST(Als, RecoversKnownBondsFromARandomStart) {
  at::manual_seed(7);
  for (const auto& [shape, bonds] : std::vector<std::pair<SiteShape, Bonds>>{
           {kTwoSites, {3}}, {kThreeSites, {2, 3}}, {kLowRank, {4}}}) {
    for (const MomentNorm& norm : {MomentNorm{}, MomentNorm{random_moments(30, 30, 1), {}}}) {
      const torch::Tensor w = random_mpo(shape, bonds).to_dense();
      const AlsResult r = als(w, random_mpo(shape, bonds), norm, {.sweeps = 300, .tolerance = 0});
      EXPECT_LT(relative_difference(r.mpo.to_dense(), w), 1e-6);
      EXPECT_LT(weighted_mpo(w, {.shape = shape, .max_bonds = bonds}, norm).relative_error, 1e-7);
    }
  }
}

TEST(Als, BothSolversAgree) {
  const torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const MomentNorm norm{random_moments(30, 30, 3), {}};
  for (const auto& [shape, bonds] :
       std::vector<std::pair<SiteShape, Bonds>>{{kTwoSites, {7}}, {kThreeSites, {4, 5}}}) {
    const Mpo start = factorize(w, {.shape = shape, .max_bonds = bonds}).mpo;
    const AlsResult direct = als(w, start, norm, {.sweeps = 1});
    const AlsResult gradients = als(
        w, start, norm, {.sweeps = 1, .direct_rows = 0, .cg_steps = 1000, .cg_tolerance = 1e-14});
    EXPECT_NEAR(direct.relative_error, gradients.relative_error, 1e-6);
  }
}

TEST(Als, KeepsDtypeAndScale) {
  const torch::Tensor w = at::randn({24, 30});
  const MomentNorm norm{random_moments(30, 30, 3).to(at::kFloat), {}};
  const FactorizeOptions options{.shape = kTwoSites, .max_bonds = Bonds{7}};
  const AlsResult r = weighted_mpo(w, options, norm);
  EXPECT_EQ(r.mpo.cores()[0].scalar_type(), at::kFloat);
  EXPECT_NEAR(weighted_error(w, r.mpo.to_dense(), norm), r.relative_error, 1e-6);
  const AlsResult tiny = weighted_mpo(w * 1e-30, options, {norm.input * 1e30, {}});
  EXPECT_NEAR(tiny.relative_error, r.relative_error, 1e-4);
}

TEST(Als, OfZeroMatricesAndNorms) {
  const torch::Tensor zero = at::zeros({24, 30}), w = at::randn({24, 30});
  const FactorizeOptions options{.shape = kThreeSites, .max_bonds = Bonds{3, 3}};
  for (const MomentNorm& norm : norms()) {
    const AlsResult r = weighted_mpo(zero, options, norm);
    EXPECT_EQ(r.relative_error, 0);
    EXPECT_EQ(r.mpo.to_dense().abs().sum().item<double>(), 0);
    // A core of zeros has no direction to move in, yet must not break anything.
    const AlsResult from_zero = als(w, r.mpo, norm);
    EXPECT_LE(from_zero.relative_error, 1);
    EXPECT_TRUE(from_zero.mpo.to_dense().isfinite().all().item<bool>());
  }
  const AlsResult unseen = weighted_mpo(w, options, {.input = at::zeros({30, 30})});
  EXPECT_EQ(unseen.relative_error, 0);
  EXPECT_TRUE(unseen.mpo.to_dense().isfinite().all().item<bool>());
}

TEST(Als, RefusesWhatDoesNotFit) {
  torch::Tensor w = at::randn({24, 30}, at::kDouble);
  const Mpo start = random_mpo(kTwoSites, {3});
  EXPECT_THROW(als(w.t(), start, {}), c10::ValueError);
  EXPECT_THROW(als(w, start, {.input = random_moments(24, 24)}), c10::ValueError);
  EXPECT_THROW(als(w, start, {}, {.sweeps = -1}), c10::ValueError);
  EXPECT_THROW(als(w, start, {}, {.ridge = 0}), c10::ValueError);
  EXPECT_THROW(weighted_mpo(w, {.shape = {{24, 1}, {1, 15}}}, {.input = random_moments(30, 30)}),
               c10::ValueError);
  w[2][2] = NAN;
  EXPECT_THROW(als(w, start, {}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::tn
