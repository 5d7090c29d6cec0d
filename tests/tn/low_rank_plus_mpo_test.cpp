#include "schmidt/tn/low_rank_plus_mpo.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

const SiteShape kSites{{6, 4}, {5, 6}};  // 24 x 30

torch::Tensor dense(const LowRankPlusMpo& sum) {
  return at::mm(sum.low_rank.left, sum.low_rank.right) + sum.mpo.to_dense();
}

TEST(LowRankPlusMpo, IsNeverWorseThanItsLowRankTerm) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const torch::Tensor w = at::randn({24, 30}, dtype);
    const torch::Tensor g = random_moments(30, 30), h = random_moments(24, 24);
    for (const MomentNorm& norm : {MomentNorm{}, MomentNorm{g, {}}, MomentNorm{g, h},
                                   MomentNorm{random_moments(30, 5), {}}}) {
      const LowRankPlusMpo sum =
          low_rank_plus_mpo(w, norm, {.rank = 4, .shape = kSites, .bonds = {3}});
      const double alone = weighted_low_rank(w, norm, {.rank = 4}).relative_error;
      EXPECT_NEAR(sum.errors[0], alone, 1e-7);
      EXPECT_LE(sum.relative_error, alone);
      if (alone > 1e-3) {
        EXPECT_LT(sum.relative_error, alone);  // it has more parameters
      }
      EXPECT_NEAR(weighted_error(w, dense(sum), norm), sum.relative_error, 1e-5);
      EXPECT_EQ(sum.low_rank.relative_error, sum.relative_error);
      EXPECT_EQ(sum.mpo.shape(), kSites);
      EXPECT_EQ(sum.mpo.cores()[0].scalar_type(), dtype);
    }
  }
}

TEST(LowRankPlusMpo, FindsASumOfBoth) {
  const torch::Tensor low =
      at::mm(at::randn({24, 2}, at::kDouble), at::randn({2, 30}, at::kDouble));
  const torch::Tensor w = 10 * low + random_mpo(kSites, {1}).to_dense();
  const LowRankPlusMpo sum = low_rank_plus_mpo(
      w, {}, {.rank = 2, .shape = kSites, .bonds = {1}, .fit = {.rounds = 300, .tolerance = 0}});
  EXPECT_LT(sum.relative_error, 0.01 * sum.errors[0]);
}

TEST(LowRankPlusMpo, OfExactLowRankLeavesTheMpoAlone) {
  const torch::Tensor w = at::mm(at::randn({24, 2}), at::randn({2, 30}));
  const LowRankPlusMpo sum = low_rank_plus_mpo(w, {}, {.rank = 2, .shape = kSites, .bonds = {3}});
  EXPECT_LT(sum.relative_error, 1e-6);
  EXPECT_LT(relative_difference(dense(sum), w), 1e-5);
  const LowRankPlusMpo zero =
      low_rank_plus_mpo(at::zeros({24, 30}), {}, {.rank = 2, .shape = kSites, .bonds = {3}});
  EXPECT_EQ(zero.relative_error, 0);
  EXPECT_EQ(dense(zero).abs().sum().item<double>(), 0);
  EXPECT_EQ(zero.mpo.bonds(), std::vector<int64_t>{3});
}

TEST(LowRankPlusMpo, RefusesWhatDoesNotFit) {
  torch::Tensor w = at::randn({24, 30});
  EXPECT_THROW(low_rank_plus_mpo(w, {}, {.rank = 2, .shape = kSites, .bonds = {}}),
               c10::ValueError);
  EXPECT_THROW(low_rank_plus_mpo(w, {}, {.rank = 0, .shape = kSites, .bonds = {2}}),
               c10::ValueError);
  EXPECT_THROW(low_rank_plus_mpo(w, {}, {.rank = 2, .shape = {{6, 4}, {5, 5}}, .bonds = {2}}),
               c10::ValueError);
  w[0][0] = NAN;
  EXPECT_THROW(low_rank_plus_mpo(w, {}, {.rank = 2, .shape = kSites, .bonds = {2}}),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::tn
