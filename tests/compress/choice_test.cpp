#include "schmidt/compress/choice.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "schmidt/compress/weighted_target.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/mpo.h"

#include "tests/tn/random_moment_norm.h"
#include "tests/tn/random_mpo.h"

namespace schmidt::compress {
namespace {

constexpr int64_t kRows = 48, kCols = 24;

torch::Tensor low_rank(int64_t rank) {
  return torch::matmul(torch::randn({kRows, rank}), torch::randn({rank, kCols}));
}

torch::Tensor balanced(int64_t bond) {
  return tn::random_mpo(tn::balanced_shape(kRows, kCols, 2), {bond}).to_dense().to(torch::kFloat32);
}

plan::LayerPlan plan_of(int64_t rank) {
  plan::Layer layer;
  layer.name = "layer";
  layer.rows = kRows;
  layer.cols = kCols;
  return {layer, tn::low_rank_shape(kRows, kCols), {rank}, "auto", true};
}

/// Inputs x', drifted from x, and gradients, H itself among them if `outputs`.
LayerInputs inputs_of(const torch::Tensor& w, bool outputs) {
  const torch::Tensor g = tn::random_moments(kCols, kCols).to(torch::kFloat32);
  const torch::Tensor h = tn::random_moments(kRows, kRows).to(torch::kFloat32);
  const torch::Tensor drift = torch::eye(kCols) + 0.05 * torch::randn({kCols, kCols});
  calibrate::GradientMoments gradient{torch::matmul(w.t(), torch::matmul(h, w)), true,
                                      h.diagonal().mean().item<double>()};
  if (outputs) gradient.outputs = h;
  LayerInputs inputs{.moments = g, .cross = torch::matmul(drift, g)};
  inputs.gradient = gradient;
  return inputs;
}

double error_of(const torch::Tensor& w, const FittedWeight& fitted, const LayerInputs& inputs) {
  const torch::Tensor found = model::unfold_weight({"layer", kRows, kCols}, fitted.weight);
  const WeightedTarget target = weighted_target(w, inputs, {});
  return tn::weighted_error(target.matrix, found, target.norm);
}

TEST(Choice, IsTheLeastErrorOfAllAtEqualParameters) {
  for (const torch::Tensor& w : {torch::randn({kRows, kCols}), low_rank(3) + balanced(2)}) {
    const plan::LayerPlan plan = plan_of(6);
    const LayerInputs inputs = inputs_of(w, true);
    const FittedWeight chosen = choose(w, plan, inputs, {});
    ASSERT_EQ(chosen.candidates.size(), 3U);
    for (const Candidate& c : chosen.candidates) EXPECT_LE(c.parameters, plan.parameters());
    double least = 1e9;
    for (const char* name : {"fisher", "gauss-newton", "sum"}) {
      plan::LayerPlan alone = plan;
      if (std::string(name) == "gauss-newton") {
        alone.shape = tn::balanced_shape(kRows, kCols, 2);
        alone.max_bonds = plan::bonds_within(alone.shape, plan.parameters(), true);
      }
      const FittedWeight found = find_method(name).fit(w, alone, inputs, {});
      const double error = error_of(w, found, inputs);
      least = std::min(least, error);
    }
    EXPECT_NEAR(error_of(w, chosen, inputs), least, 1e-5);
    const auto winner = std::ranges::find(chosen.candidates, chosen.method, &Candidate::method);
    ASSERT_NE(winner, chosen.candidates.end());
    EXPECT_NEAR(winner->error, least, 1e-5);
  }
}

TEST(Choice, TakesWhatTheWeightIs) {
  const std::map<std::string, torch::Tensor> weights = {{"fisher", low_rank(6)},
                                                        {"gauss-newton", balanced(4)}};
  for (const auto& [name, w] : weights) {
    LayerInputs inputs = inputs_of(w, true);
    inputs.cross = torch::Tensor();  // a drifted target is none of them
    const FittedWeight chosen = choose(w, plan_of(6), inputs, {});
    EXPECT_EQ(chosen.method, name);
    EXPECT_LT(error_of(w, chosen, inputs), 0.02);
  }
}

TEST(Choice, JudgesByInputsAloneWithoutGradients) {
  const torch::Tensor w = torch::randn({kRows, kCols});
  LayerInputs inputs = inputs_of(w, false);
  inputs.gradient.reset();
  const FittedWeight chosen = choose(w, plan_of(6), inputs, {});
  ASSERT_EQ(chosen.candidates.size(), 3U);
  EXPECT_EQ(chosen.candidates[0].method, "whitened");
  const auto by_error = [](const Candidate& c) { return c.error; };
  const Candidate best = std::ranges::min(chosen.candidates, {}, by_error);
  EXPECT_EQ(chosen.method, best.method);
  EXPECT_NEAR(best.error, error_of(w, chosen, inputs), 1e-6);
}

TEST(Choice, TakesTheLowRankWhereNothingElseCanBeJudged) {
  const torch::Tensor w = torch::randn({kRows, kCols});
  const FittedWeight chosen = choose(w, plan_of(6), inputs_of(w, false), {});
  EXPECT_EQ(chosen.method, "fisher");
  EXPECT_EQ(chosen.candidates.size(), 1U);
}

TEST(Choice, KeepsToTheParametersOfAnMpoPlan) {
  const torch::Tensor w = torch::randn({kRows, kCols});
  plan::LayerPlan plan = plan_of(1);
  plan.shape = tn::balanced_shape(kRows, kCols, 3);
  plan.max_bonds = {7, 7};
  const FittedWeight chosen = choose(w, plan, inputs_of(w, true), {});
  ASSERT_EQ(chosen.candidates.size(), 3U);
  for (const Candidate& c : chosen.candidates) {
    EXPECT_LE(c.parameters, plan.parameters());
    EXPECT_GT(c.parameters, plan.parameters() / 2);
  }
}

TEST(Choice, FallsBackToThePlansNetworkWhereALowRankIsTooLarge) {
  const torch::Tensor w = torch::randn({kRows, kCols});
  plan::LayerPlan plan = plan_of(1);
  plan.shape = tn::balanced_shape(kRows, kCols, 3);
  plan.max_bonds = {1, 1};
  ASSERT_LT(plan.parameters(), kRows + kCols - 1);
  for (const bool outputs : {true, false}) {
    const FittedWeight chosen = choose(w, plan, inputs_of(w, outputs), {});
    EXPECT_EQ(chosen.method, "gauss-newton");
    ASSERT_EQ(chosen.candidates.size(), 1U);
    EXPECT_LE(chosen.candidates[0].parameters, plan.parameters());
  }
  EXPECT_FALSE(sum_parts(plan, {}));
  EXPECT_THROW(find_method("sum").fit(w, plan, inputs_of(w, true), {}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::compress
