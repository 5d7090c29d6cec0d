#include "schmidt/plan/forms.h"

#include <random>

#include <gtest/gtest.h>

#include "schmidt/quant/integer_format.h"

namespace schmidt::plan {
namespace {

Layer layer(int64_t rows, int64_t cols) { return {"layer", 0, {1}, {"layer"}, rows, cols}; }

LayerPlan integers(int bits, int64_t group, bool symmetric) {
  LayerPlan plan{.layer = layer(6, 64), .method = "nearest"};
  plan.integers = {bits, group, symmetric};
  return plan;
}

TEST(PlanBytes, TakesTheLeastLossOfAllThatFit) {
  std::mt19937_64 random(3);
  std::uniform_int_distribution<int64_t> bytes(1, 40);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<LayerForms> layers;
    for (int i = 0; i < 3; ++i) {
      // Convex curves, where the walk along the hulls is the optimum up to one step.
      LayerForms forms{layer(9, 9), {}};
      for (int64_t cost = 10; cost <= 40; cost += 10) {
        forms.forms.push_back({LayerPlan{.layer = forms.layer}, cost,
                               static_cast<double>(i + 1) / static_cast<double>(cost)});
      }
      layers.push_back(forms);
    }
    const int64_t budget = 30 + bytes(random);
    const BytePlan plan = plan_bytes(layers, budget);
    EXPECT_LE(plan.bytes, budget);
    double best = 1e9;
    for (int c = 0; c < 64; ++c) {
      int64_t cost = 0;
      double loss = 0;
      for (int i = 0; i < 3; ++i) {
        const Form& form =
            layers[static_cast<size_t>(i)].forms[static_cast<size_t>(c >> (2 * i)) % 4];
        cost += form.bytes;
        loss += form.loss;
      }
      if (cost <= budget) best = std::min(best, loss);
    }
    EXPECT_DOUBLE_EQ(plan.loss, best) << budget;
  }
}

TEST(PlanBytes, LeavesOutWhatStaysAsItIs) {
  const std::vector<LayerForms> layers = {
      {layer(9, 9), {{{}, 100, 0.0}, {LayerPlan{.layer = layer(9, 9)}, 50, 1.0}}}};
  EXPECT_TRUE(plan_bytes(layers, 100).layers.empty());
  EXPECT_EQ(plan_bytes(layers, 99).layers.size(), 1U);
  EXPECT_EQ(least_bytes(layers), 50);
  EXPECT_THROW(plan_bytes(layers, 49), c10::ValueError);
}

TEST(PlanCosts, SpendsWhatIsCountedAndAddsUpBytes) {
  const auto form = [](int64_t bytes, double loss) {
    return Form{LayerPlan{.layer = layer(9, 9)}, bytes, loss};
  };
  // The second form is smaller and takes longer; the third is worse and takes as long.
  const std::vector<LayerForms> layers = {
      {layer(9, 9), {{{}, 100, 0.0}, form(20, 1.0), form(60, 2.0), form(50, 3.0)}}};
  const std::vector<std::vector<int64_t>> costs = {{7, 8, 4, 4}};
  const BytePlan plan = plan_costs(layers, costs, 6);
  ASSERT_EQ(plan.layers.size(), 1U);
  EXPECT_EQ(plan.cost, 4);
  EXPECT_EQ(plan.bytes, 60);
  EXPECT_EQ(plan.loss, 2.0);
  EXPECT_TRUE(plan_costs(layers, costs, 7).layers.empty());
  EXPECT_THROW(plan_costs(layers, costs, 3), c10::ValueError);
}

TEST(StoredBytes, AreThoseOfCodesScalesAndZeroPoints) {
  // 6 rows of 64 codes of 3 bits: 6 words each; 2 groups; 6 zero points of 3 bits: 1 word.
  const int64_t codes = 6 * 6 * 4, scales = 6 * 2 * 2, zeros = 2 * 4, shape = 16;
  const int64_t with_zeros = stored_bytes(integers(3, 32, false), 2);
  const int64_t without = stored_bytes(integers(3, 32, true), 2);
  EXPECT_GE(with_zeros, codes + scales + zeros + shape);
  EXPECT_GE(without, codes + scales + shape);
  EXPECT_GT(with_zeros - without, zeros);  // and its header
  EXPECT_EQ(stored_bytes(integers(4, 32, true), 2) - without, 6 * 2 * 4);
}

TEST(LeftIntegers, HaveGroupsOfWholeBlocksOrOfWholeRows) {
  const auto group = [](int64_t rank, int64_t of_right) {
    LayerPlan plan{.layer = layer(6, 64), .max_bonds = {rank}};
    plan.factor_integers = quant::IntegerFormat{4, of_right, false};
    return plan.left_integers().group;
  };
  EXPECT_EQ(group(96, 64), 32);
  EXPECT_EQ(group(128, 64), 64);
  EXPECT_EQ(group(320, 64), 64);
  EXPECT_EQ(group(92, 64), 46);  // of none, but still small
  EXPECT_EQ(group(122, 64), 61);
  EXPECT_EQ(group(8, 64), 8);
  EXPECT_EQ(group(101, 64), 101);
  EXPECT_EQ(group(96, 16), 16);
}

}  // namespace
}  // namespace schmidt::plan
