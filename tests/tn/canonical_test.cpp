#include "schmidt/tn/canonical.h"

#include <ATen/ops/diag.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

double distance_from_identity(const torch::Tensor& gram) {
  return (gram - at::eye(gram.size(0), gram.options())).abs().max().item<double>();
}

TEST(Canonicalize, MovesTheCentreAndKeepsTheMatrix) {
  const Mpo mpo = random_mpo({{3, 4, 2, 2}, {2, 3, 4, 2}}, {5, 7, 3});
  const torch::Tensor w = mpo.to_dense();
  for (int64_t centre = 0; centre < 4; ++centre) {
    const Mpo c = canonicalize(mpo, centre);
    EXPECT_LT(relative_difference(c.to_dense(), w), 1e-13);
    EXPECT_NEAR(c.cores()[centre].norm().item<double>() / w.norm().item<double>(), 1, 1e-13);
    for (int64_t k = 0; k < 4; ++k) {
      const torch::Tensor& core = c.cores()[k];
      const torch::Tensor left = core.flatten(0, 2), right = core.flatten(1);
      if (k < centre) {
        EXPECT_LT(distance_from_identity(at::mm(left.t(), left)), 1e-13);
      }
      if (k > centre) {
        EXPECT_LT(distance_from_identity(at::mm(right, right.t())), 1e-13);
      }
    }
  }
}

TEST(Canonicalize, ShedsBondsThatNoMatrixCanFill) {
  // 4 x 1 on the left of a bond of 9: at most 4 of it are independent.
  const Mpo c = canonicalize(random_mpo({{4, 5}, {1, 5}}, {9}), 1);
  EXPECT_EQ(c.bonds(), std::vector<int64_t>{4});
}

TEST(Canonicalize, TakesHalfTypesToFloat32) {
  const Mpo c = canonicalize(random_mpo({{4, 5}, {3, 5}}, {6}, at::kBFloat16), 0);
  EXPECT_EQ(c.cores()[0].scalar_type(), at::kFloat);
}

TEST(Canonicalize, RefusesASiteThatIsNone) {
  const Mpo mpo = random_mpo({{4, 5}, {3, 5}}, {6});
  EXPECT_THROW(canonicalize(mpo, -1), c10::ValueError);
  EXPECT_THROW(canonicalize(mpo, 2), c10::ValueError);
}

TEST(Balance, SplitsTheSingularValuesOfABondEvenly) {
  const Mpo mpo = random_mpo({{6, 1}, {1, 9}}, {4});
  const torch::Tensor w = mpo.to_dense();
  const Mpo b = balance(mpo);
  EXPECT_LT(relative_difference(b.to_dense(), w), 1e-13);
  const torch::Tensor left = b.cores()[0].flatten(0, 2), right = b.cores()[1].flatten(1);
  const torch::Tensor s = at::diag(at::linalg_svdvals(w).narrow(0, 0, 4));
  EXPECT_LT(relative_difference(at::mm(left.t(), left), s), 1e-12);
  EXPECT_LT(relative_difference(at::mm(right, right.t()), s), 1e-12);
}

TEST(Balance, KeepsTheMatrixOfAnyChain) {
  const Mpo mpo = random_mpo({{3, 4, 2, 2}, {2, 3, 4, 2}}, {5, 7, 3});
  EXPECT_LT(relative_difference(balance(mpo).to_dense(), mpo.to_dense()), 1e-13);
  const Mpo single = random_mpo({{5}, {7}}, {});
  EXPECT_LT(relative_difference(balance(single).to_dense(), single.to_dense()), 1e-15);
}

TEST(Balance, TakesBondsThatAreNotOfFullRank) {
  std::vector<torch::Tensor> cores = random_mpo({{6, 1}, {1, 9}}, {4}).cores();
  cores[0].select(3, 2).zero_();
  const Mpo mpo(cores);
  EXPECT_LT(relative_difference(balance(mpo).to_dense(), mpo.to_dense()), 1e-6);
  for (torch::Tensor& core : cores) core.zero_();
  EXPECT_EQ(balance(Mpo(cores)).to_dense().abs().max().item<double>(), 0.0);
}

}  // namespace
}  // namespace schmidt::tn
