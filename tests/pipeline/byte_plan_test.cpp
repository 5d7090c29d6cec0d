#include "schmidt/pipeline/byte_plan.h"

#include <gtest/gtest.h>

#include "tests/support/support.h"

namespace schmidt::pipeline {
namespace {

constexpr quant::IntegerFormat kTwoBits{2, 32, false};

/// One layer as it is, in integers, and in integers with a low rank of what those lose.
Competition competition(double integers_lose, double sum_loses, int64_t integers_take = 100) {
  const plan::Layer layer{.name = "l", .block = 0, .rows = 64, .cols = 64};
  plan::LayerPlan integers{.layer = layer, .integers = kTwoBits};
  plan::LayerPlan sum = integers;
  sum.factor_integers = kTwoBits;
  Competition made;
  made.rest = 10;
  made.layers = {{layer,
                  {{std::nullopt, 1000, 0.0},
                   {integers, integers_take, integers_lose},
                   {sum, 90, sum_loses}}}};
  return made;
}

bool has_rank(const plan::BytePlan& plan) { return plan.layers.at(0).factor_integers.has_value(); }

TEST(BytePlan, RanksAreBoughtByThemselvesWhereMuchLessIsLostWithThem) {
  const ByteBudget budget{.bytes = 120};
  EXPECT_TRUE(has_rank(spend(competition(2.0, 1.3), budget)));
  EXPECT_FALSE(has_rank(spend(competition(2.0, 1.5), budget)));
}

TEST(BytePlan, RanksAreBoughtByThemselvesWhereIntegersAloneTakeMore) {
  const ByteBudget budget{.bytes = 120};
  EXPECT_TRUE(has_rank(spend(competition(1.0, 1.5, 150), budget)));
}

TEST(BytePlan, NamedKindsCompeteAloneWhateverTheyLose) {
  ByteBudget budget{.bytes = 120};
  budget.rules.kinds = compress::FormKinds{.whole = true};
  EXPECT_FALSE(has_rank(spend(competition(2.0, 0.1), budget)));
  budget.rules.kinds = compress::FormKinds{true, true, true};
  EXPECT_TRUE(has_rank(spend(competition(2.0, 1.9), budget)));
}

TEST(BytePlan, NamesOfFormsAreReadAsTheyAreWritten) {
  using Names = std::vector<std::string>;
  EXPECT_FALSE(form_kinds({"auto"}).has_value());
  EXPECT_EQ(names_of(std::nullopt), Names{"auto"});
  for (const Names& names : {Names{"integers"}, Names{"low-rank", "sums"}, Names{"factors"}}) {
    EXPECT_EQ(names_of(form_kinds(names)), names);
  }
  EXPECT_THROW(form_kinds({"auto", "sums"}), c10::ValueError);
  EXPECT_THROW(form_kinds({"ranks"}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::pipeline
