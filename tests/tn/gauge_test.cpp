#include "schmidt/tn/gauge.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/tn/pivot_rows.h"

#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

using Bonds = std::vector<int64_t>;

const SiteShape kLowRank = low_rank_shape(40, 30);
const SiteShape kThreeSites{{6, 4, 3}, {3, 4, 6}};

double tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-12 : 1e-5; }

struct Case {
  SiteShape shape;
  Bonds bonds;
};
const std::vector<Case> kCases{{kLowRank, {1}},       {kLowRank, {12}},
                               {kLowRank, {30}},      {kThreeSites, {18, 18}},
                               {kThreeSites, {5, 9}}, {{{8, 9}, {9, 8}}, {17}},
                               {{{72}, {72}}, {}},    {{{3, 2, 3, 4}, {4, 3, 3, 2}}, {7, 11, 6}}};

TEST(PivotRows, ExpressAllRowsWithSmallCoefficients) {
  const torch::Tensor wilkinson =  // on which partial pivoting alone grows as 2^r
      at::eye(41, at::kDouble).slice(1, 0, 40) - at::ones({41, 40}, at::kDouble).tril(-1);
  for (const torch::Tensor& a : {at::randn({90, 25}, at::kDouble), at::randn({20, 20}, at::kDouble),
                                 at::randn({50, 1}, at::kDouble), wilkinson}) {
    const PivotRows rows = pivot_rows(a);
    const int64_t r = a.size(1);
    ASSERT_EQ(rows.pivots.size(0), r);
    std::vector<bool> is_pivot(a.size(0), false);
    for (int64_t j = 0; j < r; ++j) is_pivot[rows.pivots[j].item<int64_t>()] = true;
    const torch::Tensor basis = a.index_select(0, rows.pivots);
    int64_t other = 0;
    for (int64_t i = 0; i < a.size(0); ++i) {
      if (is_pivot[i]) continue;
      const torch::Tensor row = at::mm(rows.others.slice(0, other, other + 1), basis)[0];
      EXPECT_LT((row - a[i]).norm().item<double>(), 1e-12 * a.norm().item<double>());
      ++other;
    }
    EXPECT_EQ(other, rows.others.size(0));
    if (other > 0) {
      EXPECT_LE(rows.others.abs().max().item<double>(), 1.5 + 1e-9);
    }
  }
}

TEST(Gauge, FixedIsTheSameMatrixWithFewerParameters) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const Case& c : kCases) {
      const Mpo mpo = random_mpo(c.shape, c.bonds, dtype);
      const GaugeFixed fixed = fix_gauge(mpo);
      const Mpo freed = free_gauge(fixed);
      EXPECT_EQ(bonds(fixed), c.bonds);
      EXPECT_EQ(freed.shape(), c.shape);
      EXPECT_EQ(freed.cores()[0].scalar_type(), dtype);
      EXPECT_LT(relative_difference(freed.to_dense(), mpo.to_dense()), tolerance(dtype));
      EXPECT_EQ(numel(fixed), gauge_fixed_parameter_count(c.shape, c.bonds));
      int64_t saved = 0;
      for (const int64_t bond : c.bonds) saved += bond * bond;
      EXPECT_EQ(numel(fixed), mpo.numel() - saved);
      for (size_t k = 0; k + 1 < fixed.cores.size(); ++k) {
        if (fixed.cores[k].numel() > 0) {
          EXPECT_LE(fixed.cores[k].abs().max().item<double>(), 1.6);
        }
      }
    }
  }
}

TEST(Gauge, PivotsFormTheIdentity) {
  const GaugeFixed fixed = fix_gauge(random_mpo(kThreeSites, {5, 9}));
  const Mpo mpo = free_gauge(fixed);
  for (size_t k = 0; k < 2; ++k) {
    const torch::Tensor rows = mpo.cores()[k].flatten(0, 2).index_select(0, fixed.pivots[k]);
    EXPECT_TRUE(rows.equal(at::eye(rows.size(1), at::kDouble)));
  }
}

TEST(Gauge, ApplyIsTheProductWithTheMatrix) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const Case& c : kCases) {
      const Mpo mpo = random_mpo(c.shape, c.bonds, dtype);
      const GaugeFixed fixed = fix_gauge(mpo);
      const torch::Tensor w = dense_by_definition(mpo);
      for (const Bonds& rows : {Bonds{}, Bonds{1}, Bonds{3, 5}, Bonds{0}}) {
        Bonds sizes = rows;
        sizes.push_back(mpo.cols());
        const torch::Tensor x = at::randn(sizes, dtype);
        at::NoGradGuard no_grad;
        const torch::Tensor y = apply(fixed, x), expected = at::matmul(x, w.t());
        ASSERT_EQ(y.sizes(), expected.sizes());
        if (y.numel() > 0) {
          EXPECT_LT(relative_difference(y, expected), tolerance(dtype));
        }
      }
    }
  }
}

TEST(Gauge, ApplyIsDifferentiable) {
  for (const Case& c : {kCases[1], kCases[4]}) {
    GaugeFixed fixed = fix_gauge(random_mpo(c.shape, c.bonds));
    for (torch::Tensor& core : fixed.cores) core.requires_grad_(true);
    const torch::Tensor x = at::randn({4, free_gauge(fixed).cols()}, at::kDouble).requires_grad_();
    const torch::Tensor dy = at::randn({4, free_gauge(fixed).rows()}, at::kDouble);
    (apply(fixed, x) * dy).sum().backward();
    std::vector<torch::Tensor> gradients{x.grad().clone()};
    for (const torch::Tensor& core : fixed.cores) gradients.push_back(core.grad().clone());

    x.mutable_grad().zero_();
    for (torch::Tensor& core : fixed.cores) core.mutable_grad().zero_();
    (at::mm(x, dense_by_definition(free_gauge(fixed)).t()) * dy).sum().backward();
    EXPECT_LT(relative_difference(gradients[0], x.grad()), 1e-12);
    for (size_t k = 0; k < fixed.cores.size(); ++k) {
      EXPECT_LT(relative_difference(gradients[k + 1], fixed.cores[k].grad()), 1e-12);
    }
  }
}

/// Cores of bond 6 whose matrix has rank 2.
Mpo deficient(at::ScalarType dtype) {
  const torch::Tensor left = at::mm(at::randn({40, 2}, dtype), at::randn({2, 6}, dtype));
  return Mpo({left.reshape({1, 40, 1, 6}), at::randn({6, 1, 30, 1}, dtype)});
}

TEST(Gauge, BondsWithoutFullRankSurvive) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Mpo mpo = deficient(dtype);
    EXPECT_LT(relative_difference(free_gauge(fix_gauge(mpo)).to_dense(), mpo.to_dense()),
              tolerance(dtype));
    const Mpo transposed(
        {mpo.cores()[1].permute({3, 2, 1, 0}), mpo.cores()[0].permute({3, 2, 1, 0})});
    EXPECT_LT(
        relative_difference(free_gauge(fix_gauge(transposed)).to_dense(), transposed.to_dense()),
        tolerance(dtype));
    const Mpo zero({at::zeros({1, 40, 1, 6}, dtype), at::zeros({6, 1, 30, 1}, dtype)});
    EXPECT_EQ(free_gauge(fix_gauge(zero)).to_dense().abs().sum().item<double>(), 0);
  }
}

TEST(Gauge, BondsBeyondTheirSidesShrink) {
  const Mpo mpo = random_mpo(low_rank_shape(8, 20), {15});
  const GaugeFixed fixed = fix_gauge(mpo);
  EXPECT_EQ(bonds(fixed), Bonds{8});
  EXPECT_EQ(numel(fixed), 8 * 20);  // what is stored is W itself
  EXPECT_LT(relative_difference(free_gauge(fixed).to_dense(), mpo.to_dense()), 1e-12);
}

TEST(Gauge, BudgetsAreSpentAsFarAsTheyGo) {
  EXPECT_EQ(gauge_fixed_parameter_count(kThreeSites, {5, 9}),
            18 * 5 + 5 * 16 * 9 + 9 * 18 - 25 - 81);
  for (const int64_t budget : {200, 500, 900, 1199, 1200, 5000}) {
    const int64_t rank = gauge_fixed_bonds_for_budget(kLowRank, budget)[0];
    const double p = std::min<double>(static_cast<double>(budget), 1200);
    EXPECT_EQ(rank, static_cast<int64_t>((70 - std::sqrt(4900 - 4 * p)) / 2 + 1e-9));
  }
  for (const int64_t budget : {400, 1000, 2500}) {
    Bonds chosen = gauge_fixed_bonds_for_budget(kThreeSites, budget);
    EXPECT_LE(gauge_fixed_parameter_count(kThreeSites, chosen), budget);
    for (int64_t& bond : chosen) bond = std::min<int64_t>(18, bond + 1);
    EXPECT_GT(gauge_fixed_parameter_count(kThreeSites, chosen), budget);
  }
  EXPECT_EQ(gauge_fixed_bonds_for_budget(kThreeSites, 0), (Bonds{1, 1}));
  EXPECT_EQ(gauge_fixed_bonds_for_budget({{7}, {9}}, 5), Bonds{});
}

TEST(Gauge, RefusesWhatDoesNotFit) {
  Mpo bad = random_mpo(kLowRank, {4});
  bad.cores()[0][0][3][0][1] = NAN;
  EXPECT_THROW(fix_gauge(bad), c10::ValueError);

  const GaugeFixed good = fix_gauge(random_mpo(kLowRank, {4}));
  EXPECT_THROW(apply(good, at::randn({2, 29}, at::kDouble)), c10::ValueError);
  EXPECT_THROW(apply(good, at::randn({2, 30}, at::kFloat)), c10::ValueError);
  auto with_pivots = [&](const torch::Tensor& pivots) {
    GaugeFixed f = good;
    f.pivots[0] = pivots;
    return f;
  };
  for (const Bonds& pivots : {Bonds{0, 1, 2}, Bonds{0, 2, 1, 3}, Bonds{0, 1, 1, 2},
                              Bonds{-1, 0, 1, 2}, Bonds{0, 1, 2, 40}}) {
    EXPECT_THROW(free_gauge(with_pivots(at::tensor(pivots, at::kLong))), c10::ValueError);
  }
  EXPECT_THROW(free_gauge(with_pivots(at::arange(4).to(at::kInt))), c10::ValueError);
  EXPECT_THROW(free_gauge(with_pivots({})), c10::ValueError);
  GaugeFixed f = good;
  f.cores[0] = f.cores[0].slice(0, 1);
  EXPECT_THROW(free_gauge(f), c10::ValueError);
  f = good;
  f.cores[1] = f.cores[1].to(at::kFloat);
  EXPECT_THROW(free_gauge(f), c10::ValueError);
  f.cores.pop_back();
  EXPECT_THROW(free_gauge(f), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::tn
