#include "schmidt/tn/block_krylov.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_svd.h>
#include <gtest/gtest.h>

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

double dropped(const WeightedMatrix& matrix, const LeadingSpace& space) {
  return squared_norm(matrix.w - at::mm(space.basis, space.projected), {.input = matrix.g});
}

/// ||W G^{1/2}||^2 without its `rank` largest singular values.
double least_dropped(const WeightedMatrix& matrix, int64_t rank) {
  const torch::Tensor s = at::linalg_svdvals(whitened(matrix.w, {.input = matrix.g}));
  return s.slice(0, rank).square().sum().item<double>();
}

TEST(BlockKrylov, IsWithinItsExcessOfTheOptimum) {
  const torch::Tensor random = at::randn({300, 256}, at::kDouble);
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const double decades : {0.0, 1.0, 4.0}) {  // flat spectra are the hardest
      const WeightedMatrix matrix{random.to(dtype), random_moments(256, 256, decades).to(dtype)};
      const auto space = leading_space(matrix, {.rank = 30});
      ASSERT_TRUE(space.has_value());
      const double least = least_dropped(matrix, 30);
      const double found = dropped(matrix, *space);
      EXPECT_LE(found, least * 1.01);
      EXPECT_NEAR((found + space->kept) / squared_norm(matrix.w, {.input = matrix.g}), 1, 1e-5);
      EXPECT_NEAR(space->dropped, found, 4 * space->deviation);
      EXPECT_GT(space->deviation, 0);
      EXPECT_LT(space->deviation, 0.03 * found);
      const torch::Tensor overlap = at::mm(space->basis.t(), space->basis);
      EXPECT_LT(relative_difference(overlap, at::eye(30, overlap.options())), 1e-5);
    }
  }
}

TEST(BlockKrylov, NeedsNoNorm) {
  const WeightedMatrix matrix{at::randn({200, 256}), {}};
  const auto space = leading_space(matrix, {.rank = 20});
  ASSERT_TRUE(space.has_value());
  EXPECT_LE(dropped(matrix, *space), 1.01 * least_dropped(matrix, 20));
}

TEST(BlockKrylov, IsTheSameInEveryRun) {
  const WeightedMatrix matrix{at::randn({200, 256}), {}};
  EXPECT_TRUE(
      leading_space(matrix, {.rank = 9})->basis.equal(leading_space(matrix, {.rank = 9})->basis));
}

TEST(BlockKrylov, GivesUpWhereItCannotTell) {
  const torch::Tensor low = at::mm(at::randn({200, 5}), at::randn({5, 256}));
  EXPECT_FALSE(leading_space({low, {}}, {.rank = 9}).has_value());
  EXPECT_FALSE(
      leading_space({at::randn({200, 256}), {}}, {.rank = 150, .largest_space = 1.1}).has_value());
}

}  // namespace
}  // namespace schmidt::tn
