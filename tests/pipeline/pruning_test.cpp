#include "schmidt/pipeline/pruning.h"

#include <gtest/gtest.h>

#include "schmidt/pipeline/time_plan.h"
#include "schmidt/plan/layers.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::pipeline {
namespace {

/// One MLP whose layers take a second each, 0.8 in the one form beside dense, which loses 0.2 nats
/// in each and counts as 0.84; half of its neurons may go.
class PruningForTime : public testing::Test {
 protected:
  PruningForTime() {
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
      plan::Layer layer = layer_of(name);
      plan::LayerPlan rounded = plan::pruned(layer, 1);
      rounded.neurons.reset();
      rounded.integers = quant::IntegerFormat{.bits = 8, .group = 8, .symmetric = true};
      market.forms.layers.push_back({layer, {{.bytes = 100}, {rounded, 50, 0.2}}});
      market.times.dense.push_back(1.0);
      market.times.forms.push_back({1.0, 0.8});
    }
  }

  plan::Layer layer_of(const std::string& name) {
    for (const plan::Layer& layer : plan::dense_layers(model)) {
      if (layer.name == "model.layers.0.mlp." + name) return layer;
    }
    throw std::logic_error(name);
  }

  NeuronCurves curves(double loss) {
    plan::LayerCurve curve{layer_of("down_proj"), {}};
    const int64_t neurons = curve.layer.cols;
    curve.points = {{3 * curve.layer.rows * neurons / 2, loss, {}, neurons / 2},
                    {3 * curve.layer.rows * neurons, 0.0, {}}};
    return {{0, curve}};
  }

  test::TemporaryFolder tmp;
  io::Checkpoint model =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 1, 4), tmp / "m"));
  Market market;
};

TEST_F(PruningForTime, NeuronsGoWhereThatIsTheCheaperSpeed) {
  const Pruning cheap = choose_pruning(curves(0.01), market, 1.1);
  ASSERT_EQ(cheap.layers.size(), 1U);
  EXPECT_EQ(*cheap.layers[0].neurons, cheap.layers[0].layer.cols / 2);
  EXPECT_NEAR(cheap.loss, 1.7 * 0.01, 1e-9) << "as much as pruning has been measured to cost";

  const Pruning dear = choose_pruning(curves(1.0), market, 1.1);
  EXPECT_TRUE(dear.layers.empty());
}

TEST_F(PruningForTime, NeuronsReachWhatNoFormDoes) {
  EXPECT_NEAR(1.05 * fastest_pruned(market), 2.0 / 0.84, 1e-9);
  EXPECT_TRUE(choose_pruning({}, market, 1.5).layers.empty());
  EXPECT_EQ(choose_pruning(curves(1.0), market, 1.5).layers.size(), 1U);
  EXPECT_EQ(choose_pruning(curves(1.0), market, 2.2).layers.size(), 1U);
  EXPECT_TRUE(choose_pruning(curves(1.0), market, 2.45).layers.empty());
}

TEST_F(PruningForTime, WhatNoFormChangesTakesItsTimeAllTheSame) {
  market.times.rest = 3.0;
  EXPECT_NEAR(1.05 * fastest_pruned(market), 6.0 / 4.26, 1e-9);
}

TEST_F(PruningForTime, FormsThatDoNotFitIntoWhatIsLeftAreGone) {
  plan::LayerForms& down = market.forms.layers[2];
  plan::LayerPlan rank = *down.forms[1].plan;
  rank.integers.reset();
  rank.factor_integers = quant::IntegerFormat{.bits = 8, .group = 8, .symmetric = true};
  rank.max_bonds = {4};
  for (const int64_t bond : {4, 20}) {
    rank.max_bonds = {bond};
    down.forms.push_back({rank, plan::stored_bytes(rank, 2), 0.1});
    market.times.forms[2].push_back(0.5);
  }
  plan::LayerPlan wide = *down.forms[1].plan;
  wide.integers->group = 36;  // divides the whole layer's columns, and not what is left
  down.forms.push_back({wide, 50, 0.2});
  market.times.forms[2].push_back(0.5);

  const plan::Layer layer = down.layer;
  const Market left = left_by({{plan::pruned(layer, 16)}}, market);
  const std::vector<plan::Form>& forms = left.forms.layers[2].forms;
  ASSERT_EQ(forms.size(), 3U);
  EXPECT_EQ(left.times.forms[2].size(), 3U);
  const double share = 16.0 / static_cast<double>(layer.cols);
  EXPECT_NEAR(left.times.forms[2][1], 0.8 * share, 1e-9);
  EXPECT_NEAR(forms[2].loss, 0.1 * share, 1e-9);
  // Of a low rank one factor alone becomes smaller.
  EXPECT_EQ(forms[2].plan->rank(), 4);
  EXPECT_GT(static_cast<double>(forms[2].bytes),
            1.2 * share * static_cast<double>(plan::stored_bytes(*forms[2].plan, 2)));
}

TEST_F(PruningForTime, ASpeedThatIsJustOutOfReachIsTheFastest) {
  const TimePlanner planner(market.forms, market.times);
  EXPECT_NEAR(planner.fastest(), 1 / 0.84, 1e-9);
  EXPECT_THROW(planner.plan(1.25), c10::ValueError);
  EXPECT_EQ(planner.plan(1.25, 1.1).cost, planner.plan(1.19).cost);
  EXPECT_THROW(planner.plan(1.35, 1.1), c10::ValueError);
}

TEST_F(PruningForTime, AFormThatIsAsFastAndLosesLessIsTaken) {
  for (size_t i = 0; i < market.forms.layers.size(); ++i) {
    plan::Form rough = market.forms.layers[i].forms[1];
    rough.loss = 0.9;
    market.forms.layers[i].forms.push_back(rough);
    market.times.forms[i].push_back(0.79);
  }
  const TimePlanner planner(market.forms, market.times);
  EXPECT_NEAR(planner.plan(planner.fastest() - 1e-6).loss, 3 * 0.2, 1e-9);
}

}  // namespace
}  // namespace schmidt::pipeline
