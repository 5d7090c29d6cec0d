#include "schmidt/tn/contraction.h"

#include <random>
#include <set>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

using Dims = std::vector<int64_t>;

/// The network of x and the cores with no notion of a chain: tensors are sets of
/// named legs, and every order of pairwise contractions is tried.
class AnyOrder {
 public:
  AnyOrder(const SiteShape& shape, const Dims& bonds, int64_t rows) {
    auto leg = [&](int64_t size) {
      sizes_.push_back(static_cast<double>(size));
      return static_cast<int>(sizes_.size()) - 1;
    };
    std::set<int> x{leg(rows)};
    std::vector<std::set<int>> cores(shape.sites());
    for (int64_t k = 0; k < shape.sites(); ++k) {
      const int in = leg(shape.in_dims[k]);
      x.insert(in);
      cores[k].insert({in, leg(shape.out_dims[k])});
      if (k > 0) {
        const int bond = leg(bonds[k - 1]);
        cores[k - 1].insert(bond);
        cores[k].insert(bond);
      }
    }
    cores.push_back(x);
    all_ = cores;
  }

  double cheapest() const { return cheapest(all_); }

 private:
  double cheapest(const std::vector<std::set<int>>& tensors) const {
    if (tensors.size() == 1) return 0;
    double best = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < tensors.size(); ++i) {
      for (size_t j = i + 1; j < tensors.size(); ++j) {
        std::vector<std::set<int>> rest;
        for (size_t k = 0; k < tensors.size(); ++k) {
          if (k != i && k != j) rest.push_back(tensors[k]);
        }
        std::set<int> both = tensors[i], kept;
        both.insert(tensors[j].begin(), tensors[j].end());
        double cost = 1;
        for (const int leg : both) {
          cost *= sizes_[leg];
          // A leg that both carry is summed over: every leg joins two tensors at most.
          if (!(tensors[i].count(leg) && tensors[j].count(leg))) kept.insert(leg);
        }
        rest.push_back(kept);
        best = std::min(best, cost + cheapest(rest));
      }
    }
    return best;
  }

  std::vector<double> sizes_;
  std::vector<std::set<int>> all_;
};

TEST(PlanContraction, FindsTheCheapestOfAllOrders) {
  std::mt19937 random(1);
  auto pick = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  int equal = 0, total = 0;
  for (int trial = 0; trial < 150; ++trial) {
    SiteShape shape;
    Dims bonds;
    const int64_t sites = 2 + trial % 2;
    for (int64_t k = 0; k < sites; ++k) {
      shape.out_dims.push_back(pick(8));
      shape.in_dims.push_back(pick(8));
      if (k > 0) bonds.push_back(pick(12));
    }
    const int64_t rows = pick(40);
    const double ours = contraction_cost(shape, bonds, rows, {.form_matrix = true});
    const double best = AnyOrder(shape, bonds, rows).cheapest();
    EXPECT_GE(ours, best);
    EXPECT_LE(ours, 1.5 * best);
    equal += ours == best;
    ++total;
  }
  // Orders that leave a gap between the cores done, or take an outer product, are
  // not searched; they win rarely.
  EXPECT_GE(equal, total * 9 / 10);
}

TEST(PlanContraction, LowRankIsTwoProducts) {
  const ContractionPlan plan = plan_contraction(low_rank_shape(100, 200), {7}, 3);
  EXPECT_EQ(plan.spans, (std::vector<CoreSpan>{{1, 2}, {0, 1}}));
  EXPECT_EQ(plan.multiplications, 3 * 7 * (100 + 200));
}

TEST(PlanContraction, SweepsFromTheCheaperEnd) {
  const ContractionPlan from_left = plan_contraction({{2, 16}, {16, 2}}, {4}, 1);
  EXPECT_EQ(from_left.spans, (std::vector<CoreSpan>{{0, 1}, {1, 2}}));
  const ContractionPlan from_right = plan_contraction({{16, 2}, {2, 16}}, {4}, 1);
  EXPECT_EQ(from_right.spans, (std::vector<CoreSpan>{{1, 2}, {0, 1}}));
  EXPECT_EQ(from_left.multiplications, from_right.multiplications);
}

TEST(PlanContraction, FormsTheMatrixOnlyIfAllowed) {
  const SiteShape shape{{24, 24}, {24, 24}};
  const ContractionPlan without = plan_contraction(shape, {86}, 1024);
  const ContractionPlan with = plan_contraction(shape, {86}, 1024, {.form_matrix = true});
  EXPECT_EQ(without.spans.size(), 2u);
  EXPECT_EQ(with.spans, (std::vector<CoreSpan>{{0, 2}}));
  EXPECT_EQ(with.multiplications, 576.0 * 576 * (1024 + 86));
  EXPECT_EQ(plan_contraction(shape, {86}, 1, {.form_matrix = true}).spans.size(), 2u);
}

TEST(PlanContraction, StaysQuickAndFiniteOnHostileShapes) {
  SiteShape shape{Dims(40, 1000), Dims(40, 1000)};
  const ContractionPlan plan = plan_contraction(shape, Dims(39, 1000000), 1 << 20);
  EXPECT_TRUE(std::isfinite(plan.multiplications));
  EXPECT_THROW(plan_contraction(shape, {1}, 1), c10::ValueError);
  EXPECT_THROW(plan_contraction({{2}, {2}}, {}, -1), c10::ValueError);
}

TEST(Contract, EveryPlanGivesTheSame) {
  const Mpo mpo = random_mpo({{3, 4, 2}, {2, 3, 5}}, {4, 3});
  const torch::Tensor w = dense_by_definition(mpo);
  const std::vector<std::vector<CoreSpan>> plans{
      {{0, 1}, {1, 2}, {2, 3}}, {{2, 3}, {1, 2}, {0, 1}}, {{1, 2}, {0, 1}, {2, 3}},
      {{1, 2}, {2, 3}, {0, 1}}, {{0, 2}, {2, 3}},         {{2, 3}, {0, 2}},
      {{1, 3}, {0, 1}},         {{0, 1}, {1, 3}},         {{0, 3}}};
  for (int64_t rows : {1, 5, 16, 50}) {
    const torch::Tensor x = at::randn({rows, 30}, at::kDouble);
    for (const auto& spans : plans) {
      EXPECT_LT(relative_difference(contract(mpo.cores(), x, {spans, 0}), at::mm(x, w.t())), 1e-13);
    }
  }
}

TEST(MergeCores, OfEveryRun) {
  const Mpo mpo = random_mpo({{3, 4, 2, 2}, {2, 3, 2, 5}}, {4, 3, 6});
  EXPECT_LT(relative_difference(merge_cores(mpo.cores(), {1, 4}),
                                at::einsum("bopc,cqrd,dste->boqsprte",
                                           {mpo.cores()[1], mpo.cores()[2], mpo.cores()[3]})
                                    .reshape({4, 16, 30, 1})),
            1e-13);
  EXPECT_LT(relative_difference(mpo.to_dense(), dense_by_definition(mpo)), 1e-13);
}

}  // namespace
}  // namespace schmidt::tn
