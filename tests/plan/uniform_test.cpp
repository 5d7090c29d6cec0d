#include "schmidt/plan/uniform.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::plan {
namespace {

std::vector<Layer> two_layers() {
  const std::string q = "model.layers.0.self_attn.q_proj", gate = "model.layers.0.mlp.gate_proj";
  return {{q, 0, {1}, {q}, 216, 216}, {gate, 0, {5}, {gate}, 64, 216}};
}

int64_t parameters(const std::vector<LayerPlan>& plans) {
  int64_t sum = 0;
  for (const LayerPlan& plan : plans) sum += plan.parameters();
  return sum;
}

TEST(PlanBond, PaperExample) {
  const std::vector<Layer> layer = {two_layers()[0]};
  for (const int64_t chi : {1, 6, 36}) {
    const auto plan = plan_bond(layer, {.sites = 3, .fixed_gauge = false}, chi);
    EXPECT_EQ(plan[0].shape.out_dims, (std::vector<int64_t>{6, 6, 6}));
    EXPECT_EQ(plan[0].parameters(), 36 * chi + 36 * chi * chi + 36 * chi);
    // Each bond's freedom is a chi x chi matrix.
    EXPECT_EQ(plan_bond(layer, {.sites = 3}, chi)[0].parameters(),
              plan[0].parameters() - 2 * chi * chi);
  }
}

TEST(PlanBond, NeverAboveTheFullBond) {
  const auto plan = plan_bond(two_layers(), {.low_rank = true}, 100000);
  EXPECT_EQ(plan[0].max_bonds, std::vector<int64_t>{216});
  EXPECT_EQ(plan[1].max_bonds, std::vector<int64_t>{64});
}

TEST(PlanBond, RefusesWhatDoesNotFit) {
  EXPECT_THROW(plan_bond(two_layers(), {}, 0), c10::ValueError);
  EXPECT_THROW(plan_bond(two_layers(), {.sites = 1}, 4), c10::ValueError);
  EXPECT_THROW(plan_bond(two_layers(), {.sites = 50}, 4), c10::ValueError);
  ShapeChoice by_hand;
  by_hand.by_hand = tn::SiteShape{{6, 36}, {6, 36}};
  EXPECT_EQ(plan_bond({two_layers()[0]}, by_hand, 4)[0].shape, *by_hand.by_hand);
  EXPECT_THROW(plan_bond(two_layers(), by_hand, 4), c10::ValueError);  // 64 rows
  by_hand.by_hand = tn::SiteShape{{216}, {216}};
  EXPECT_THROW(plan_bond({two_layers()[0]}, by_hand, 4), c10::ValueError);
}

TEST(PlanKeep, FillsTheBudgetWithoutPassingIt) {
  const int64_t model = 100'000;
  const int64_t selected = 216 * 216 + 64 * 216;
  for (const ShapeChoice& shape : {ShapeChoice{.sites = 2}, ShapeChoice{.low_rank = true}}) {
    for (const double keep : {0.9, 0.7, 0.5}) {
      const int64_t left =
          model - selected + parameters(plan_keep(two_layers(), shape, keep, model));
      EXPECT_LE(left, keep * model);
      EXPECT_GT(left, keep * model - 0.02 * model);
    }
  }
}

TEST(PlanKeep, OneMeansNothingToDo) {
  EXPECT_TRUE(plan_keep(two_layers(), {}, 1.0, 100'000).empty());
}

TEST(PlanKeep, RefusesWhatCannotBe) {
  for (const double keep : {0.0, -0.5, 1.01, std::nan("")}) {
    EXPECT_THROW(plan_keep(two_layers(), {}, keep, 100'000), c10::ValueError);
  }
  EXPECT_THROW(plan_keep(two_layers(), {}, 0.38, 100'000), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::plan
