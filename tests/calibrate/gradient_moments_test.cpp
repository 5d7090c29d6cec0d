#include "schmidt/calibrate/gradient_moments.h"

#include <gtest/gtest.h>

#include "schmidt/calibrate/symmetric.h"
#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/weighted_low_rank.h"

namespace schmidt::calibrate {
namespace {

torch::Tensor moments_of(int64_t samples, int64_t size) {
  const torch::Tensor x =
      torch::randn({samples, size}, torch::kFloat64) * torch::logspace(0, -2, size);
  return torch::matmul(x.t(), x) / samples;
}

struct Problem {
  torch::Tensor w, g, h;

  Problem(int64_t m, int64_t n)
      : w(torch::randn({m, n}, torch::kFloat64)), g(moments_of(200, n)), h(moments_of(200, m)) {}

  GradientMoments gradient() const {
    const bool pulled_back = w.size(1) <= w.size(0);
    const torch::Tensor moments = pulled_back ? torch::matmul(w.t(), torch::matmul(h, w)) : h;
    return {moments, pulled_back, h.diagonal().mean().item<double>()};
  }

  torch::Tensor approximation(int64_t rank, double damping = 0, double ridge = 0) const {
    const NormPair pair = norm_pair(w, nullptr, g, gradient(), damping, ridge);
    const Modes modes = weighted_modes(pair.a, pair.b);
    const torch::Tensor projector =
        torch::matmul(modes.q.narrow(1, 0, rank), modes.dual.narrow(0, 0, rank));
    return gradient().pulled_back ? torch::matmul(w, projector) : torch::matmul(projector.t(), w);
  }
};

class WeightedModes : public testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(WeightedModes, AreTheOptimumOfBothSidesNorm) {
  const auto [m, n] = GetParam();
  const Problem p(m, n);
  for (const int64_t rank : {1, 5, 11}) {
    const tn::LowRank best = tn::weighted_low_rank(p.w, {p.g, p.h}, {.rank = rank, .exact = true});
    const torch::Tensor ours = p.approximation(rank);
    EXPECT_NEAR(tn::weighted_error(p.w, ours, {p.g, p.h}), best.relative_error, 1e-8);
  }
}

TEST_P(WeightedModes, SquaresAreTheSingularValuesOfBothSides) {
  const auto [m, n] = GetParam();
  const Problem p(m, n);
  const NormPair pair = norm_pair(p.w, nullptr, p.g, p.gradient(), 0, 0);
  const torch::Tensor expected = tn::weighted_singular_values(p.w, {p.g, p.h}).square();
  EXPECT_TRUE(torch::allclose(weighted_squares(pair.a, pair.b), expected, 1e-7,
                              1e-9 * expected[0].item<double>()));
}

TEST_P(WeightedModes, KeepEverythingAtFullRank) {
  const auto [m, n] = GetParam();
  const Problem p(m, n);
  const torch::Tensor same = p.approximation(std::min(m, n), 0.05, 1e-6);
  EXPECT_LT((same - p.w).norm().item<double>(), 1e-6 * p.w.norm().item<double>());
}

INSTANTIATE_TEST_SUITE_P(Shapes, WeightedModes,
                         testing::Values(std::pair<int64_t, int64_t>{24, 12}, std::pair{12, 24},
                                         std::pair{16, 16}));

TEST(LeadingProjector, DropsLittleMoreThanTheLeastInAKrylovSpace) {
  constexpr int64_t kSide = 1100, kRank = 120;
  const Problem p(kSide, kSide);
  const NormPair pair = norm_pair(p.w, nullptr, p.g, p.gradient(), 0.05, 1e-4);
  const Projector found = leading_projector(pair.a, pair.b, kRank);
  const torch::Tensor identity = torch::matmul(found.dual, found.q);
  EXPECT_LT((identity - torch::eye(kRank)).abs().max().item<double>(), 1e-8);
  // What P loses of W' = W P: tr(B A) - tr(B P A P^T), P A P^T = Q Q^T for orthonormal modes.
  const double whole = (pair.a * pair.b).sum().item<double>();
  const double kept = (torch::matmul(pair.b, found.q) * found.q).sum().item<double>();
  const double least = weighted_squares(pair.a, pair.b).slice(0, kRank).sum().item<double>();
  EXPECT_GT((whole - kept) / least, 1 - 1e-6);
  EXPECT_LT((whole - kept) / least, 1.01);
}

TEST(SolveDtype, KeepsTheFloat64ThatARetryGives) {
  EXPECT_EQ(solve_dtype(100, torch::kFloat32), torch::kFloat64);
  EXPECT_EQ(solve_dtype(4096, torch::kFloat32), torch::kFloat32);
  EXPECT_EQ(solve_dtype(4096, torch::kFloat64), torch::kFloat64);
}

TEST(NormPair, FollowsTheDriftOnEitherSide) {
  for (const auto& [m_rows, n] : {std::pair{20, 12}, {12, 20}}) {
    const Problem p(m_rows, n);
    const torch::Tensor cross = p.g + 0.1 * torch::randn({n, n}, torch::kFloat64) * p.g.mean();
    const tn::DriftMap drift(cross, p.g, {.beta = 0.7, .ridge = 1e-6});
    const NormPair moved = norm_pair(p.w, &drift, p.g, p.gradient(), 0.3, 0);
    torch::Tensor damped = p.h.clone();
    damped.diagonal().add_(0.3 * p.h.diagonal().mean().item<double>());
    const torch::Tensor m = drift.apply(p.w);
    const torch::Tensor expected = n <= m_rows ? torch::matmul(m.t(), torch::matmul(damped, m))
                                               : torch::matmul(m, torch::matmul(p.g, m.t()));
    EXPECT_LT((moved.b - expected).norm().item<double>(), 1e-8 * expected.norm().item<double>());
    EXPECT_TRUE(torch::allclose(moved.a, n <= m_rows ? p.g : damped));
  }
}

TEST(WeightedModes, SurviveSingularMoments) {
  Problem p(20, 12);
  p.g = torch::matmul(p.w.t().narrow(1, 0, 3), p.w.narrow(0, 0, 3));  // rank 3
  const torch::Tensor at_three = p.approximation(3);
  EXPECT_TRUE(at_three.isfinite().all().item<bool>());
  EXPECT_LT(tn::weighted_error(p.w, at_three, {p.g, p.h}), 1e-5);
}

TEST(Symmetric, IsCompletedFromTheUpperTriangle) {
  const torch::Tensor half = torch::randn({600, 600}).triu();
  torch::Tensor given = half.clone();
  given.masked_fill_(torch::ones({600, 600}, torch::kBool).tril(-1), std::nan(""));
  EXPECT_TRUE(torch::equal(completed(given), half + half.triu(1).t()));
}

TEST(Symmetric, ProductsOfHalfTheWorkAreTheWholeOnes) {
  for (const int64_t n : {1, 63, 64, 65, 200, 530}) {
    const torch::Tensor w = torch::randn({40, n}, torch::kFloat64), b = moments_of(3, n);
    const torch::Tensor gram = torch::matmul(w.t(), w);
    const auto distance = [](const torch::Tensor& a, const torch::Tensor& exact) {
      return (a - exact).norm().item<double>() / exact.norm().item<double>();
    };
    const torch::Tensor half = symmetric_product(w.t(), w);
    EXPECT_LT(distance(half, gram), 1e-14) << n;
    EXPECT_TRUE(half.equal(half.t())) << n;
    const torch::Tensor r = torch::randn({n, n}, torch::kFloat64).tril();
    EXPECT_LT(
        distance(lower_congruence(r, b).tril(), torch::matmul(r.t(), torch::matmul(b, r)).tril()),
        1e-14)
        << n;
  }
  EXPECT_THROW(symmetric_product(torch::ones({2, 3}), torch::ones({3, 4})), c10::ValueError);
  EXPECT_THROW(lower_congruence(torch::ones({2, 2}), torch::ones({3, 3})), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::calibrate
