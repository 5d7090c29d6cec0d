#include "schmidt/tn/weighted_low_rank.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

torch::Tensor dense(const LowRank& f) { return at::mm(f.left, f.right); }

/// Relative error of each rank in the norm by a full SVD of the whitened matrix.
torch::Tensor singular_values_by_whitening(const torch::Tensor& w, const MomentNorm& norm) {
  return at::linalg_svdvals(whitened(w, norm));
}

double best_error(const torch::Tensor& w, const MomentNorm& norm, int64_t rank) {
  const torch::Tensor s = singular_values_by_whitening(w, norm);
  return (s.slice(0, rank).norm() / s.norm()).item<double>();
}

struct Case {
  int64_t m, n;
  int64_t input_rank, output_rank;  ///< 0: identity
};

class WeightedLowRank : public testing::TestWithParam<Case> {
 protected:
  MomentNorm norm() const {
    const Case& c = GetParam();
    return {c.input_rank > 0 ? random_moments(c.n, c.input_rank) : torch::Tensor(),
            c.output_rank > 0 ? random_moments(c.m, c.output_rank) : torch::Tensor()};
  }
  torch::Tensor weight() const { return at::randn({GetParam().m, GetParam().n}, at::kDouble); }
};

TEST_P(WeightedLowRank, IsTheOptimumOfItsRank) {
  const torch::Tensor w = weight();
  const MomentNorm norm = this->norm();
  for (const int64_t rank : {1, 7, 20}) {
    const LowRank f = weighted_low_rank(w, norm, {.rank = rank});
    EXPECT_LE(f.left.size(1), rank);
    EXPECT_NEAR(f.relative_error, best_error(w, norm, rank), 1e-7);
    EXPECT_NEAR(weighted_error(w, dense(f), norm), f.relative_error, 1e-7);
  }
}

TEST_P(WeightedLowRank, SpectrumIsThatOfTheWhitenedMatrix) {
  const torch::Tensor w = weight();
  const MomentNorm norm = this->norm();
  const torch::Tensor s = weighted_singular_values(w, norm);
  const torch::Tensor expected = singular_values_by_whitening(w, norm);
  ASSERT_EQ(s.sizes(), expected.sizes());
  EXPECT_LT((s - expected).abs().max().item<double>(), 1e-7 * s[0].item<double>());
  const torch::Tensor errors = error_of_each_rank(s);
  EXPECT_EQ(errors.size(0), s.size(0) + 1);
  EXPECT_NEAR(errors[0].item<double>(), 1, 1e-12);
  EXPECT_NEAR(errors[9].item<double>(), best_error(w, norm, 9), 1e-7);
  EXPECT_EQ(errors[s.size(0)].item<double>(), 0);
}

TEST_P(WeightedLowRank, IsNested) {
  const torch::Tensor w = weight();
  const MomentNorm norm = this->norm();
  const LowRank large = weighted_low_rank(w, norm, {.rank = 15});
  const int64_t rank = std::min<int64_t>(4, large.left.size(1));
  const torch::Tensor cut = at::mm(large.left.slice(1, 0, rank), large.right.slice(0, 0, rank));
  EXPECT_NEAR(weighted_error(w, cut, norm), best_error(w, norm, rank), 1e-7);
}

INSTANTIATE_TEST_SUITE_P(
    Norms, WeightedLowRank,
    testing::Values(Case{40, 60, 0, 0}, Case{60, 40, 0, 0}, Case{40, 60, 60, 0},
                    Case{60, 40, 40, 0}, Case{40, 60, 9, 0}, Case{60, 40, 9, 0},
                    Case{40, 60, 0, 40}, Case{60, 40, 0, 11}, Case{40, 60, 60, 40},
                    Case{60, 40, 40, 60}, Case{40, 60, 9, 12}, Case{60, 40, 30, 5}),
    [](const auto& c) {
      const Case& p = c.param;
      return fmt::format("{}x{}_G{}_H{}", p.m, p.n, p.input_rank, p.output_rank);
    });

TEST(LowRankOf, SinglePrecisionIsAsGood) {
  const torch::Tensor w = at::randn({50, 70});
  const MomentNorm norm{random_moments(70, 70), random_moments(50, 50)};
  const LowRank f = weighted_low_rank(w, norm, {.rank = 12});
  EXPECT_EQ(f.left.scalar_type(), at::kFloat);
  EXPECT_NEAR(weighted_error(w, dense(f), norm), best_error(w, norm, 12), 1e-5);
  EXPECT_EQ(weighted_low_rank(w.to(at::kBFloat16), norm, {.rank = 3}).left.scalar_type(),
            at::kFloat);
}

TEST(LowRankOf, FullRankIsExact) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{20, 30}, {30, 20}}) {
    const torch::Tensor w = at::randn({m, n});
    const LowRank f = weighted_low_rank(w, {.input = random_moments(n, 3)}, {.rank = 99});
    EXPECT_EQ(f.left.size(1), 20);
    EXPECT_TRUE(dense(f).equal(w));
    EXPECT_EQ(f.relative_error, 0);
  }
}

TEST(LowRankOf, AsMpoIsTheSameMatrix) {
  const torch::Tensor w = at::randn({20, 30}, at::kDouble);
  const LowRank f = weighted_low_rank(w, {}, {.rank = 6});
  const Mpo mpo = to_mpo(f);
  EXPECT_EQ(mpo.shape(), low_rank_shape(20, 30));
  EXPECT_LT(relative_difference(mpo.to_dense(), dense(f)), 1e-14);
}

TEST(LowRankOf, ZeroAndRankOneMatrices) {
  const MomentNorm norm{random_moments(30, 30), random_moments(20, 20)};
  const LowRank zero = weighted_low_rank(at::zeros({20, 30}), norm, {.rank = 4});
  EXPECT_EQ(zero.relative_error, 0);
  EXPECT_EQ(dense(zero).abs().sum().item<double>(), 0);
  EXPECT_EQ(weighted_singular_values(at::zeros({20, 30}), norm).sum().item<double>(), 0);
  EXPECT_EQ(error_of_each_rank(at::zeros({20}, at::kDouble)).sum().item<double>(), 0);

  const torch::Tensor one = at::mm(at::randn({20, 1}), at::randn({1, 30}));
  const LowRank f = weighted_low_rank(one, norm, {.rank = 1});
  EXPECT_LT(relative_difference(dense(f), one), 1e-5);
  EXPECT_LT(f.relative_error, 1e-6);
}

TEST(LowRankOf, AZeroNormIsNoReasonToFail) {
  const torch::Tensor w = at::randn({20, 30});
  for (const MomentNorm& norm :
       {MomentNorm{.input = at::zeros({30, 30})}, MomentNorm{.output = at::zeros({20, 20})}}) {
    const LowRank f = weighted_low_rank(w, norm, {.rank = 4});
    EXPECT_EQ(f.relative_error, 0);
    EXPECT_TRUE(dense(f).isfinite().all().item<bool>());
  }
}

TEST(LowRankOf, ExtremeScales) {
  const torch::Tensor w = at::randn({20, 30}, at::kDouble), g = random_moments(30, 30);
  const double expected = best_error(w, {.input = g}, 5);
  for (const double scale : {1e-200, 1e200}) {
    const LowRank f = weighted_low_rank(w * scale, {.input = g / scale}, {.rank = 5});
    EXPECT_NEAR(f.relative_error, expected, 1e-9);
    EXPECT_NEAR(weighted_error(w, dense(f) / scale, {.input = g}), expected, 1e-9);
  }
}

TEST(LowRankOf, RefusesWhatDoesNotFit) {
  torch::Tensor w = at::randn({20, 30});
  EXPECT_THROW(weighted_low_rank(w, {}, {.rank = 0}), c10::ValueError);
  EXPECT_THROW(weighted_low_rank(w, {.input = random_moments(20, 20)}, {.rank = 2}),
               c10::ValueError);
  w[3][4] = NAN;
  EXPECT_THROW(weighted_low_rank(w, {}, {.rank = 2}), c10::ValueError);
  EXPECT_THROW(weighted_singular_values(w, {}), c10::ValueError);
}

/// Large enough for the Krylov space.
TEST(LowRankOf, LargeMatricesAreWithinHalfAPercent) {
  const torch::Tensor w = at::randn({1024, 1024});
  const torch::Tensor g = at::diag_embed(at::logspace(0, -3, 1024));
  const LowRank exact = weighted_low_rank(w, {.input = g}, {.rank = 60, .exact = true});
  const LowRank fast = weighted_low_rank(w, {.input = g}, {.rank = 60});
  EXPECT_FALSE(fast.left.equal(exact.left));
  const double error = weighted_error(w, dense(fast), {.input = g});
  EXPECT_LE(error, 1.005 * exact.relative_error);
  EXPECT_NEAR(fast.relative_error / error, 1, 0.01);  // four standard errors
}

}  // namespace
}  // namespace schmidt::tn
