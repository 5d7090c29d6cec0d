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
      forms.layers.push_back({layer, {{.bytes = 100}, {rounded, 50, 0.2}}});
      times.dense.push_back(1.0);
      times.forms.push_back({1.0, 0.8});
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
  Competition forms;
  StepTimes times;
};

TEST_F(PruningForTime, NeuronsGoWhereThatIsTheCheaperSpeed) {
  const Pruning cheap = choose_pruning(curves(0.01), forms, times, 1.1);
  ASSERT_EQ(cheap.layers.size(), 1U);
  EXPECT_EQ(*cheap.layers[0].neurons, cheap.layers[0].layer.cols / 2);
  EXPECT_NEAR(cheap.speedup, 2.0, 1e-9);
  EXPECT_NEAR(cheap.loss, 1.7 * 0.01, 1e-9) << "as much as pruning has been measured to cost";

  const Pruning dear = choose_pruning(curves(1.0), forms, times, 1.1);
  EXPECT_TRUE(dear.layers.empty());
  EXPECT_EQ(dear.speedup, 1.0);
}

TEST_F(PruningForTime, NeuronsReachWhatNoFormDoes) {
  EXPECT_NEAR(1.05 * fastest_pruned(forms, times), 2.0 / 0.84, 1e-9);
  EXPECT_TRUE(choose_pruning({}, forms, times, 1.5).layers.empty());
  EXPECT_EQ(choose_pruning(curves(1.0), forms, times, 1.5).layers.size(), 1U);
  EXPECT_EQ(choose_pruning(curves(1.0), forms, times, 2.2).layers.size(), 1U);
  EXPECT_TRUE(choose_pruning(curves(1.0), forms, times, 2.45).layers.empty());
}

TEST_F(PruningForTime, WhatNoFormChangesTakesItsTimeAllTheSame) {
  times.rest = 3.0;
  EXPECT_NEAR(choose_pruning(curves(0.01), forms, times, 1.1).speedup, 6.0 / 4.5, 1e-9);
  EXPECT_NEAR(1.05 * fastest_pruned(forms, times), 6.0 / 4.26, 1e-9);
}

TEST_F(PruningForTime, ASpeedThatIsJustOutOfReachIsTheFastest) {
  const TimePlanner planner(forms, times);
  EXPECT_NEAR(planner.fastest(), 1 / 0.84, 1e-9);
  EXPECT_THROW(planner.plan(1.25), c10::ValueError);
  EXPECT_EQ(planner.plan(1.25, 1.1).cost, planner.plan(1.19).cost);
  EXPECT_THROW(planner.plan(1.35, 1.1), c10::ValueError);
}

TEST_F(PruningForTime, AFormThatIsAsFastAndLosesLessIsTaken) {
  for (size_t i = 0; i < forms.layers.size(); ++i) {
    plan::Form rough = forms.layers[i].forms[1];
    rough.loss = 0.9;
    forms.layers[i].forms.push_back(rough);
    times.forms[i].push_back(0.79);
  }
  const TimePlanner planner(forms, times);
  EXPECT_NEAR(planner.plan(planner.fastest() - 1e-6).loss, 3 * 0.2, 1e-9);
}

}  // namespace
}  // namespace schmidt::pipeline
