#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/form_times.h"
#include "schmidt/pipeline/plan_model.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

/// A model of 24 x 8 columns, whose products take some microseconds.
class Speedup : public testing::Test {
 protected:
  Speedup() { at::set_num_threads(1); }

  static CompressRecipe recipe() {
    CompressRecipe recipe;
    recipe.bytes = 4e5;
    recipe.method = "searched";
    recipe.forms.group = 32;
    recipe.selection = {{}, {"none"}};
    recipe.dtype = torch::kBFloat16;
    recipe.text = {.files = {"self"}, .tokens = 512, .context = 16, .seed = 5};
    return recipe;
  }

  /// Statistics, as a compression of the model leaves them.
  void collect() {
    compress_model(checkpoint, recipe(), {.out = tmp / "c", .statistics = tmp / "s"}, {});
  }

  PlanRecipe plan_recipe(double speedup) const {
    PlanRecipe plan;
    plan.statistics = tmp / "s";
    plan.speedup = speedup;
    plan.workload.dtype = torch::kFloat32;
    plan.forms.group = 32;
    plan.method = "searched";
    return plan;
  }

  PlanOutcome plan(double speedup) const {
    return plan_model(plan::open_outline(tmp / "m"), plan_recipe(speedup), tmp / "plan.json", true);
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 1, 8), tmp / "m"));
};

TEST_F(Speedup, TimesEveryFormOfEveryLayer) {
  ByteBudget budget{1e9,
                    {.group = 32, .kinds = compress::FormKinds{.factors = true}},
                    "searched",
                    torch::kFloat32};
  std::vector<plan::Layer> layers = plan::dense_layers(checkpoint);
  const Competition all = compete(checkpoint, layers, budget);
  for (const bool prefill : {false, true}) {
    const StepTimes times = measure_times(
        checkpoint, all, {.prefill = prefill, .prompt = 32, .dtype = torch::kFloat32});
    ASSERT_EQ(times.forms.size(), all.layers.size());
    double sum = times.rest;
    for (size_t i = 0; i < all.layers.size(); ++i) {
      ASSERT_EQ(times.forms[i].size(), all.layers[i].forms.size());
      for (size_t k = 0; k < times.forms[i].size(); ++k) {
        EXPECT_GT(times.forms[i][k], 0.0);
        EXPECT_LT(times.forms[i][k], 0.1);
        // The layer as it is is one of its forms, and was timed once.
        if (!all.layers[i].forms[k].plan) {
          EXPECT_EQ(times.forms[i][k], times.dense[i]);
        }
      }
      sum += times.dense[i];
    }
    EXPECT_GE(times.rest, 0.0);
    EXPECT_NEAR(times.original(), sum, 1e-12);
    // Layers of one shape take the same time.
    EXPECT_EQ(times.forms[0], times.forms[7]);
  }
  EXPECT_THROW(measure_times(checkpoint, all, {.prefill = true, .prompt = 1 << 20}),
               c10::ValueError);
}

TEST_F(Speedup, IsReachedOrRefusedWithWhatCanBeHad) {
  collect();
  double most = 0.0;
  try {
    plan(1e6);
    FAIL() << "no machine is that fast";
  } catch (const c10::ValueError& e) {
    const std::string text = e.what_without_backtrace();
    const size_t at = text.find("predicted to give ");
    ASSERT_NE(at, std::string::npos) << text;
    most = std::stod(text.substr(at + 18));
  }
  EXPECT_FALSE(fs::exists(tmp / "plan.json"));
  for (const double none : {1.0, 0.5, -2.0, std::nan("")}) {
    EXPECT_THROW(plan(none), c10::ValueError) << none;
  }
  if (most < 1.2) GTEST_SKIP() << "integers are hardly faster than numbers here: " << most;
  const double asked =
      std::min(1 + (most - 1) / 4, 1.2);  // what is fastest changes from run to run
  const PlanOutcome outcome = plan(asked);
  ASSERT_TRUE(outcome.speedup);
  EXPECT_GE(*outcome.speedup, asked);
  EXPECT_FALSE(outcome.file.layers.empty());
  ASSERT_EQ(outcome.frontiers.size(), 1U);
  const auto& points = outcome.frontiers.front().points;
  EXPECT_GT(points.front().loss, points.back().loss) << "time costs quality";

  // The statistics that made the plan fit it, whichever layers it leaves as they are.
  CompressRecipe planned = recipe();
  planned.bytes.reset();
  planned.forms = {};
  planned.selection = {};
  planned.method.clear();
  planned.plan = plan::read_plan(tmp / "plan.json", checkpoint);
  compress_model(checkpoint, planned, {.out = tmp / "p", .statistics = tmp / "s"}, {});
  EXPECT_TRUE(fs::exists(tmp / "p" / "model.safetensors"));
}

TEST_F(Speedup, ACompressionFollowsThePlanThatItBeganWith) {
  CompressRecipe asked = recipe();
  asked.bytes.reset();
  asked.speedup = 1.02;
  asked.workload.dtype = torch::kFloat32;
  const fs::path file = tmp / "fast.plan.json";
  const auto compressed = [&] {
    compress_model(checkpoint, asked, {.out = tmp / "fast", .statistics = tmp / "s"}, {});
    return test::read_file(tmp / "fast/model.safetensors");
  };
  std::string weights;
  try {
    weights = compressed();
  } catch (const c10::ValueError& e) {
    GTEST_SKIP() << e.what_without_backtrace();
  }
  const std::string planned = test::read_file(file);
  EXPECT_TRUE(fs::exists(tmp / "fast.plan.svg"));
  const CompressRecipe recorded = recorded_recipe(io::Checkpoint::open(tmp / "fast"), checkpoint);
  ASSERT_TRUE(recorded.plan);
  EXPECT_FALSE(recorded.speedup);
  EXPECT_EQ(plan::planned_json(recorded.plan->layers),
            plan::planned_json(plan::read_plan(file, checkpoint).layers));

  // Times are others by now, the plan is not.
  fs::remove_all(tmp / "fast");
  EXPECT_EQ(compressed(), weights);
  EXPECT_EQ(test::read_file(file), planned);
  fs::remove_all(tmp / "fast");
  asked.speedup = 1.03;
  EXPECT_THROW(compressed(), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "fast"));
  asked.speedup = 1.02;
  asked.forms.group = 64;
  EXPECT_THROW(compressed(), c10::ValueError) << "another choice of forms";
  asked.speedup = 1e6;
  fs::remove(file);
  EXPECT_THROW(compressed(), c10::ValueError);
  EXPECT_FALSE(fs::exists(file));
}

/// Of a model in which half of the neurons do not count.
class SpeedupOfPrunedMlps : public Speedup {
 protected:
  SpeedupOfPrunedMlps() {
    test::TinyModel model = test::make_tiny_model(2, 1, 8);
    for (auto& [name, tensor] : model.tensors) {
      if (name.ends_with("down_proj.weight")) tensor.slice(1, 0, torch::nullopt, 2).zero_();
    }
    checkpoint = io::Checkpoint::open(test::write_model(model, tmp / "half"));
  }

  void expect_the_same_again(const std::string& out) {
    const CompressRecipe recorded = recorded_recipe(io::Checkpoint::open(tmp / out), checkpoint);
    EXPECT_EQ(recorded.mlp, MlpForm::kNeurons);
    compress_model(checkpoint, recorded, {.out = tmp / "again"}, {});
    EXPECT_EQ(test::mlp_sizes(tmp / "again"), test::mlp_sizes(tmp / out));
    EXPECT_EQ(test::read_file(tmp / "again/model.safetensors"),
              test::read_file(tmp / out / "model.safetensors"));
  }
};

TEST_F(SpeedupOfPrunedMlps, WhatTimesHaveDecidedIsMadeAgain) {
  CompressRecipe asked = recipe();
  asked.bytes.reset();
  asked.speedup = 1.05;
  asked.workload = {.prefill = true, .prompt = 64, .dtype = torch::kFloat32};
  asked.mlp = MlpForm::kNeurons;
  const auto compressed = [&] { compress_model(checkpoint, asked, {.out = tmp / "fast"}, {}); };
  compressed();
  EXPECT_FALSE(fs::exists(tmp / "fast.pruned"));
  EXPECT_FALSE(fs::exists(tmp / "fast.statistics"));
  const std::string weights = test::read_file(tmp / "fast/model.safetensors");
  expect_the_same_again("fast");
  fs::remove_all(tmp / "fast");
  compressed();
  EXPECT_EQ(test::read_file(tmp / "fast/model.safetensors"), weights) << "by the plan beside it";

  // A plan without neurons is another one.
  fs::remove_all(tmp / "fast");
  asked.mlp = MlpForm::kLowRank;
  EXPECT_THROW(compressed(), c10::ValueError);
  asked.mlp = MlpForm::kNeurons;
  asked.speedup = 1e6;
  fs::remove(tmp / "fast.plan.json");
  EXPECT_THROW(compressed(), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "fast.pruned"));
}

/// A plan by which both MLPs keep 128 neurons, and the layers of block 0 take 4 bits.
CompressRecipe pruned_plan(const CompressRecipe& like, const io::Checkpoint& checkpoint) {
  CompressRecipe asked = like;
  asked.bytes.reset();
  asked.forms = {};
  asked.selection = {};
  asked.method.clear();
  asked.mlp = MlpForm::kNeurons;
  asked.plan.emplace();
  asked.plan->made_by = nlohmann::json::object();
  for (const plan::Layer& layer : plan::dense_layers(checkpoint)) {
    if (layer.name.ends_with("down_proj")) asked.pruning.push_back(plan::pruned(layer, 128));
    if (layer.block == 1) continue;  // as it is, but for its neurons
    plan::LayerPlan p = plan::pruned(layer, 1);
    p.neurons.reset();
    p.method = "searched";
    p.integers = quant::IntegerFormat{.bits = 4, .group = 32, .symmetric = false};
    asked.plan->layers.push_back(p);
  }
  return asked;
}

TEST_F(SpeedupOfPrunedMlps, APlanOfWhatIsLeftIsFollowedAgain) {
  CompressRecipe asked = pruned_plan(recipe(), checkpoint);
  compress_model(checkpoint, asked, {.out = tmp / "planned"}, {});
  EXPECT_EQ(test::mlp_sizes(tmp / "planned"), (std::vector<int64_t>{128, 128}));
  expect_the_same_again("planned");

  for (plan::LayerPlan& p : asked.pruning) p.neurons = 100;  // which groups of 32 do not divide
  EXPECT_THROW(compress_model(checkpoint, asked, {.out = tmp / "odd"}, {}), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "odd.statistics"));
  EXPECT_FALSE(fs::exists(tmp / "odd.pruned"));
}

TEST_F(SpeedupOfPrunedMlps, AKilledRunGoesOnFromItsOwnPrunedModelAlone) {
  CompressRecipe asked = pruned_plan(recipe(), checkpoint);
  compress_model(checkpoint, asked, {.out = tmp / "whole"}, {});
  const fs::path pruned = tmp / "killed.pruned";
  const auto run = [&](const ProgressFn& progress) {
    compress_model(checkpoint, asked, {.out = tmp / "killed"}, {.progress = progress});
  };
  EXPECT_EQ(test::run_in_child([&] {
              run([&](const Progress& /*step*/) {
                if (fs::exists(pruned / "config.json")) test::kill_now();
              });
            }),
            test::ChildEnd::kKilled);
  ASSERT_TRUE(fs::exists(pruned));
  const std::vector<plan::LayerPlan> pruning = asked.pruning;
  for (plan::LayerPlan& p : asked.pruning) p.neurons = 160;
  EXPECT_THROW(run({}), c10::ValueError) << "another pruning";
  asked.pruning = pruning;
  run({});
  EXPECT_FALSE(fs::exists(pruned));
  EXPECT_EQ(test::read_file(tmp / "killed/model.safetensors"),
            test::read_file(tmp / "whole/model.safetensors"));
}

}  // namespace
}  // namespace schmidt::pipeline
