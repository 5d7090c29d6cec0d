#include "schmidt/compress/rounded_weight.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/compress/errors.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/tn/weighted_low_rank.h"

namespace schmidt::compress {
namespace {

constexpr int64_t kRows = 60, kCols = 96;

plan::LayerPlan plan_of(std::optional<int> bits, std::optional<int64_t> rank, int factor_bits = 8) {
  plan::LayerPlan plan{.layer = {"layer", 0, {1}, {"layer"}, kRows, kCols}, .method = "searched"};
  if (bits) plan.integers = {*bits, 32, false};
  if (!rank) return plan;
  plan.shape = tn::low_rank_shape(kRows, kCols);
  plan.max_bonds = {*rank};
  plan.factor_integers = {factor_bits, 32, factor_bits == 8};
  return plan;
}

class RoundedWeight : public testing::Test {
 protected:
  RoundedWeight() {
    torch::manual_seed(7);
    w = torch::randn({kRows, kCols}) / 10;
    const torch::Tensor x = torch::randn({400, kCols}) * torch::linspace(0.05, 3, kCols).square();
    inputs.moments = torch::matmul(x.t(), x) / 400;
    inputs.cross = inputs.moments;
  }

  FittedWeight fit(const plan::LayerPlan& plan) const {
    return fit_layer(find_method("searched"), w, plan, inputs, {});
  }

  torch::Tensor unfolded(const FittedWeight& fitted) const {
    return model::unfold_weight({"layer", kRows, kCols}, fitted.weight);
  }

  torch::Tensor w;
  LayerInputs inputs;
};

TEST_F(RoundedWeight, ErrorsAreThoseOfWhatIsStored) {
  for (const plan::LayerPlan& plan : {plan_of(4, {}), plan_of({}, 16), plan_of(3, 8)}) {
    const FittedWeight fitted = fit(plan);
    EXPECT_NEAR(fitted.relative_error, relative_error(w, unfolded(fitted)), 1e-6);
    EXPECT_NEAR(*fitted.weighted_error, weighted_error(w, unfolded(fitted), inputs), 1e-6);
  }
}

TEST_F(RoundedWeight, FactorsOfManyBitsAreTheOptimumOfTheirRank) {
  for (const int64_t rank : {8, 32, 40}) {
    const double optimum =
        tn::weighted_low_rank(w, {inputs.moments, {}}, {.rank = rank}).relative_error;
    double before = 1e9;
    for (const int bits : {3, 4, 6, 8}) {
      const FittedWeight fitted = fit(plan_of({}, rank, bits));
      EXPECT_EQ(fitted.weight.form.at("kind"), "factored");
      EXPECT_LT(*fitted.weighted_error, before);
      before = *fitted.weighted_error;
    }
    EXPECT_GT(before, 0.999 * optimum);
    EXPECT_LT(before, 1.02 * optimum) << rank;
  }
}

TEST_F(RoundedWeight, ALowRankTakesUpWhatRoundingLoses) {
  for (const int bits : {2, 3, 4}) {
    double before = *fit(plan_of(bits, {})).weighted_error;
    for (const int64_t rank : {4, 16, 48}) {
      const FittedWeight fitted = fit(plan_of(bits, rank));
      EXPECT_EQ(fitted.weight.form.at("kind"), "sum");
      EXPECT_LT(*fitted.weighted_error, before) << bits << " " << rank;
      before = *fitted.weighted_error;
    }
  }
}

TEST_F(RoundedWeight, TheLeftFactorHasOrthonormalColumns) {
  const WeightParts parts = parts_of(w, plan_of({}, 24), inputs, {});
  const torch::Tensor gram = torch::matmul(parts.left.t(), parts.left);
  EXPECT_LT((gram - torch::eye(24)).abs().max().item<double>(), 1e-5);
  EXPECT_FALSE(parts.whole.defined());
}

TEST_F(RoundedWeight, WeightsOfLowerRankThanPlannedAreExact) {
  w = torch::outer(torch::linspace(-1, 1, kRows), torch::linspace(1, 2, kCols));
  EXPECT_LT(fit(plan_of({}, 16)).relative_error, 0.01);
  w.zero_();
  EXPECT_EQ(fit(plan_of({}, 16)).relative_error, 0.0);
  EXPECT_EQ(fit(plan_of(3, 16)).relative_error, 0.0);
}

TEST_F(RoundedWeight, ParametersAreThoseOfAllParts) {
  const auto parameters = [&](const plan::LayerPlan& plan) {
    return *model::describe_weight("layer", fit(plan).weight).parameters;
  };
  EXPECT_EQ(parameters(plan_of(4, {})), kRows * kCols);
  EXPECT_EQ(parameters(plan_of({}, 16)), 16 * (kRows + kCols));
  EXPECT_EQ(parameters(plan_of(3, 16)), kRows * kCols + 16 * (kRows + kCols));
  for (const auto& plan : {plan_of(4, {}), plan_of({}, 16), plan_of(3, 16)}) {
    EXPECT_EQ(parameters(plan), plan.parameters());
  }
}

}  // namespace
}  // namespace schmidt::compress
