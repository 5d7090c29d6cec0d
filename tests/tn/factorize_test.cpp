#include "schmidt/tn/factorize.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

using Bonds = std::vector<int64_t>;

const SiteShape kThreeSites{{6, 4, 3}, {3, 4, 6}};  // 72 x 72

/// Cut k of W as a matrix: sites 1 .. k against the others.
torch::Tensor unfolding(const torch::Tensor& w, const SiteShape& shape, int64_t cut) {
  std::vector<int64_t> dims = shape.out_dims, order;
  dims.insert(dims.end(), shape.in_dims.begin(), shape.in_dims.end());
  int64_t left = 1;
  for (int64_t k = 0; k < shape.sites(); ++k) {
    order.insert(order.end(), {k, shape.sites() + k});
    if (k < cut) left *= shape.out_dims[k] * shape.in_dims[k];
  }
  return w.reshape(dims).permute(order).reshape({left, -1});
}

/// Relative error of the best approximation of that rank (Eckart and Young).
double best_error(const torch::Tensor& matrix, int64_t rank) {
  const torch::Tensor s = at::linalg_svdvals(matrix.to(at::kDouble));
  return (s.slice(0, rank).norm() / s.norm()).item<double>();
}

TEST(Factorize, IsExactAtFullBond) {
  const std::vector<SiteShape> shapes{{{72}, {72}},
                                      low_rank_shape(72, 72),
                                      {{8, 9}, {9, 8}},
                                      {{2, 36}, {3, 24}},
                                      {{36, 2}, {24, 3}},
                                      kThreeSites,
                                      {{3, 2, 3, 4}, {4, 3, 3, 2}}};
  for (const auto& [dtype, tolerance] : {std::pair(at::kFloat, 1e-6), {at::kDouble, 1e-13}}) {
    const torch::Tensor w = at::randn({72, 72}, dtype);
    for (const SiteShape& shape : shapes) {
      const Factorization f = factorize(w, {.shape = shape});
      EXPECT_EQ(f.mpo.bonds(), full_bonds(shape));
      EXPECT_EQ(f.mpo.cores()[0].scalar_type(), dtype);
      EXPECT_LT(relative_difference(f.mpo.to_dense(), w), tolerance);
      EXPECT_LT(f.relative_error, 1e-12);
    }
  }
}

TEST(Factorize, LowRankIsTheBestOfItsRank) {
  const torch::Tensor w = at::randn({60, 40});
  for (int64_t rank : {1, 7, 39}) {
    for (const torch::Tensor& matrix : {w, w.t(), w.to(at::kDouble)}) {
      const SiteShape shape = low_rank_shape(matrix.size(0), matrix.size(1));
      const Factorization f = factorize(matrix, {.shape = shape, .max_bonds = Bonds{rank}});
      EXPECT_NEAR(f.relative_error, best_error(matrix, rank), 1e-9);
    }
  }
}

TEST(Factorize, ReportedErrorIsTheMeasuredOne) {
  for (const auto& [dtype, accuracy] : {std::pair(at::kFloat, 1e-6), {at::kDouble, 1e-13}}) {
    const torch::Tensor w = at::randn({72, 72}, dtype);
    for (const Bonds& bonds : {Bonds{1, 1}, Bonds{5, 9}, Bonds{18, 3}, Bonds{17, 18}}) {
      const Factorization f = factorize(w, {.shape = kThreeSites, .max_bonds = bonds});
      EXPECT_EQ(f.mpo.bonds(), bonds);
      EXPECT_NEAR(f.relative_error, relative_difference(f.mpo.to_dense(), w), accuracy);
    }
  }
}

TEST(Factorize, ErrorKeepsTheBoundsOfTheorem22) {
  const torch::Tensor w = at::randn({72, 72}, at::kDouble);
  const Bonds bonds{6, 10};
  const double error = factorize(w, {.shape = kThreeSites, .max_bonds = bonds}).relative_error;
  const double first = best_error(unfolding(w, kThreeSites, 1), bonds[0]);
  const double second = best_error(unfolding(w, kThreeSites, 2), bonds[1]);
  EXPECT_GE(error, std::max(first, second) - 1e-12);
  EXPECT_LE(error, std::hypot(first, second) + 1e-12);
}

TEST(Factorize, MeetsItsToleranceAndNotByMuch) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    // Singular values that fall off, so that a tolerance decides.
    const torch::Tensor w =
        at::mm(at::randn({72, 72}, dtype) * at::logspace(0, -4, 72, 10.0, dtype),
               at::randn({72, 72}, dtype));
    for (double tolerance : {0.5, 0.1, 1e-3, 1e-7}) {
      const Factorization f =
          factorize(w, {.shape = low_rank_shape(72, 72), .tolerance = tolerance});
      EXPECT_LE(f.relative_error, tolerance);
      const int64_t rank = f.mpo.bonds()[0];
      if (rank > 1) {
        EXPECT_GT(best_error(w, rank - 1), tolerance);
      }
      EXPECT_LE(factorize(w, {.shape = kThreeSites, .tolerance = tolerance}).relative_error,
                tolerance);
    }
  }
}

TEST(Factorize, BothLimitsHoldTogether) {
  const torch::Tensor w = random_mpo(kThreeSites, {4, 5}).to_dense();
  const Factorization f =
      factorize(w, {.shape = kThreeSites, .max_bonds = Bonds{9, 3}, .tolerance = 1e-8});
  EXPECT_EQ(f.mpo.bonds(), (Bonds{4, 3}));
}

TEST(Factorize, FindsKnownBonds) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Bonds bonds{4, 7};
    const torch::Tensor w = random_mpo(kThreeSites, bonds).to_dense().to(dtype);
    for (double tolerance : {0.0, 1e-4}) {
      const Factorization f = factorize(w, {.shape = kThreeSites, .tolerance = tolerance});
      EXPECT_EQ(f.mpo.bonds(), bonds);
      EXPECT_LT(relative_difference(f.mpo.to_dense(), w), dtype == at::kFloat ? 1e-6 : 1e-13);
    }
  }
}

TEST(Factorize, IsLeftCanonical) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Factorization f =
        factorize(at::randn({72, 72}, dtype), {.shape = kThreeSites, .max_bonds = Bonds{18, 9}});
    for (size_t k = 0; k < 2; ++k) {
      const torch::Tensor c = f.mpo.cores()[k].flatten(0, 2);
      const torch::Tensor gap = at::mm(c.t(), c) - at::eye(c.size(1), c.options());
      EXPECT_LT(gap.abs().max().item<double>(), dtype == at::kFloat ? 1e-6 : 1e-13);
    }
  }
}

TEST(Factorize, OfAZeroMatrix) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Factorization f =
        factorize(at::zeros({72, 72}, dtype), {.shape = kThreeSites, .max_bonds = Bonds{5, 5}});
    EXPECT_EQ(f.mpo.bonds(), (Bonds{1, 1}));
    EXPECT_EQ(f.relative_error, 0);
    EXPECT_TRUE(f.mpo.to_dense().equal(at::zeros({72, 72}, dtype)));
  }
}

TEST(Factorize, OfARankOneMatrix) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const torch::Tensor w = at::mm(at::randn({50, 1}, dtype), at::randn({1, 30}, dtype));
    const Factorization f = factorize(w, {.shape = low_rank_shape(50, 30)});
    EXPECT_EQ(f.mpo.bonds(), Bonds{1});
    EXPECT_LT(relative_difference(f.mpo.to_dense(), w), dtype == at::kFloat ? 1e-6 : 1e-14);
  }
}

TEST(Factorize, OfExtremeScales) {
  for (double scale : {1e-300, 1e-30, 1e30, 1e300}) {
    const torch::Tensor w = at::randn({72, 72}, at::kDouble) * scale;
    const Factorization f = factorize(w, {.shape = kThreeSites, .max_bonds = Bonds{5, 9}});
    EXPECT_NEAR(f.relative_error, relative_difference(f.mpo.to_dense() / scale, w / scale), 1e-12);
  }
}

TEST(Factorize, HalfTypesComeBackInFloat32) {
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    const torch::Tensor w = at::randn({72, 72}).to(dtype);
    const Factorization f = factorize(w, {.shape = kThreeSites});
    EXPECT_EQ(f.mpo.cores()[0].scalar_type(), at::kFloat);
    EXPECT_LT(relative_difference(f.mpo.to_dense(), w), 1e-6);
  }
}

TEST(Factorize, RefusesNaNAndInfinity) {
  for (double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    torch::Tensor w = at::randn({72, 72});
    w[71][3] = bad;
    EXPECT_THROW(factorize(w, {.shape = kThreeSites}), c10::ValueError);
  }
}

TEST(Factorize, RefusesOptionsThatDoNotFit) {
  const torch::Tensor w = at::randn({72, 72});
  EXPECT_THROW(factorize(w, {.shape = {{72, 2}, {36, 2}}}), c10::ValueError);
  EXPECT_THROW(factorize(w, {.shape = {{8, 9}, {72}}}), c10::ValueError);
  EXPECT_THROW(factorize(w, {.shape = {}}), c10::ValueError);
  EXPECT_THROW(factorize(w.flatten(), {.shape = {{5184}, {1}}}), c10::ValueError);
  EXPECT_THROW(factorize(w.to(at::kInt), {.shape = kThreeSites}), c10::ValueError);
  EXPECT_THROW(factorize(w, {.shape = kThreeSites, .max_bonds = Bonds{5}}), c10::ValueError);
  EXPECT_THROW(factorize(w, {.shape = kThreeSites, .max_bonds = Bonds{5, 0}}), c10::ValueError);
  EXPECT_THROW(factorize(w, {.shape = kThreeSites, .tolerance = -0.1}), c10::ValueError);
  EXPECT_THROW(factorize(w, {.shape = kThreeSites, .tolerance = 1.0}), c10::ValueError);
  EXPECT_THROW(factorize(w, {.shape = kThreeSites, .tolerance = NAN}), c10::ValueError);
}

TEST(Factorize, RecordsNoGradient) {
  const torch::Tensor w = at::randn({72, 72}).requires_grad_(true);
  EXPECT_FALSE(factorize(w, {.shape = kThreeSites}).mpo.cores()[0].requires_grad());
}

}  // namespace
}  // namespace schmidt::tn
