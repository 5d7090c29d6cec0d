#include <set>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/model/model.h"
#include "schmidt/package/model_card.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/plan_model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

class Size : public testing::Test {
 protected:
  static CompressRecipe recipe(double bytes, const std::string& method = "searched") {
    CompressRecipe recipe;
    recipe.bytes = bytes;
    recipe.method = method;
    recipe.forms.group = 24;
    recipe.forms.kinds = compress::FormKinds{true, true, true};
    recipe.selection = {{}, {"none"}};
    recipe.fit.steps = 20;
    recipe.dtype = torch::kBFloat16;
    recipe.text = text();
    return recipe;
  }

  static CalibrationText text() {
    return {.files = {"self"}, .tokens = 2048, .context = 16, .seed = 5};
  }

  CompressOutcome compress(const CompressRecipe& recipe, const std::string& out) {
    return compress_model(checkpoint, recipe, {.out = tmp / out, .statistics = tmp / "statistics"},
                          {});
  }

  int64_t size(const std::string& out) const {
    return static_cast<int64_t>(fs::file_size(tmp / out / "model.safetensors"));
  }

  /// KL(original || compressed), nats a token.
  double divergence(const std::string& out) const {
    return test::divergence(checkpoint, io::Checkpoint::open(tmp / out), ids);
  }

  test::TemporaryFolder tmp;
  torch::Tensor ids = [] {
    at::set_num_threads(1);
    at::manual_seed(2);
    return torch::randint(264, {8, 20}, torch::kInt64);
  }();
  io::Checkpoint checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 1, 4), tmp / "m"));
};

TEST_F(Size, IsKeptAndSpent) {
  double before = 1e9;
  for (const double bytes : {75e3, 95e3, 120e3, 160e3}) {
    const std::string out = std::to_string(bytes);
    const CompressOutcome outcome = compress(recipe(bytes), out);
    EXPECT_LE(size(out), bytes);
    EXPECT_GT(size(out), 0.9 * bytes);
    ASSERT_TRUE(outcome.predicted_loss);
    const double lost = divergence(out);
    EXPECT_LT(lost, before) << bytes;
    EXPECT_GT(*outcome.predicted_loss, 0.5 * lost) << bytes;
    EXPECT_LT(*outcome.predicted_loss, 2.0 * lost) << bytes;
    before = lost;
  }
}

TEST_F(Size, MixedWidthsLoseLessThanOneWidthInTheSameBytes) {
  for (const int bits : {4, 3}) {
    QuantizeRecipe plain;
    plain.bits = bits;
    plain.group = 24;
    plain.method = "searched";
    plain.vocabulary_bits = bits;
    plain.text = text();
    const std::string one = "one" + std::to_string(bits), mixed = "mixed" + std::to_string(bits);
    CompressRecipe uniform = compress_recipe(plain, checkpoint);
    EXPECT_EQ(uniform.plan->layers.front().method, kVocabularyMethod);
    uniform.dtype = torch::kBFloat16;
    compress(uniform, one);
    compress(recipe(static_cast<double>(size(one))), mixed);
    EXPECT_LE(size(mixed), size(one));
    EXPECT_LT(divergence(mixed), divergence(one)) << bits;
  }
}

TEST_F(Size, ARecordedRecipeGivesTheSameBytes) {
  compress(recipe(80e3, "learned"), "first");
  const io::Checkpoint first = io::Checkpoint::open(tmp / "first");
  compress(recorded_recipe(first, checkpoint), "again");
  EXPECT_EQ(test::read_file(tmp / "first/model.safetensors"),
            test::read_file(tmp / "again/model.safetensors"));
}

/// Of a model in which half of the neurons hardly count.
class SizeOfPrunedMlps : public Size {
 protected:
  SizeOfPrunedMlps() {
    test::TinyModel model = test::make_tiny_model(2, 1, 4);
    for (auto& [name, tensor] : model.tensors) {
      if (name.ends_with("down_proj.weight")) tensor.slice(1, 0, torch::nullopt, 2).mul_(0.02);
    }
    checkpoint = io::Checkpoint::open(test::write_model(model, tmp / "half"));
  }

  static CompressRecipe pruning() {
    CompressRecipe pruning = recipe(120e3);
    pruning.forms.group = 8;
    pruning.forms.kinds = compress::FormKinds{};
    pruning.mlp = MlpForm::kNeurons;
    return pruning;
  }
};

TEST_F(SizeOfPrunedMlps, NeuronsThatHardlyCountLeaveTheirBytesToTheOthers) {
  CompressRecipe whole = pruning();
  whole.mlp = MlpForm::kLowRank;
  compress(whole, "whole");
  const CompressOutcome outcome = compress(pruning(), "pruned");
  EXPECT_EQ(test::mlp_sizes(tmp / "whole"), (std::vector<int64_t>{144, 144}));
  for (const int64_t size : test::mlp_sizes(tmp / "pruned")) EXPECT_LE(size, 80);
  EXPECT_LE(size("pruned"), 120e3);
  EXPECT_LT(divergence("pruned"), 0.7 * divergence("whole"));
  EXPECT_GT(*outcome.predicted_loss, 0.4 * divergence("pruned"));
  EXPECT_FALSE(fs::exists(tmp / "pruned.pruned"));
  EXPECT_FALSE(fs::exists(tmp / "pruned.pruned.partial"));
  EXPECT_EQ(package::model_name(io::Checkpoint::open(tmp / "pruned")), "half");

  const CompressRecipe recorded = recorded_recipe(io::Checkpoint::open(tmp / "pruned"), checkpoint);
  EXPECT_EQ(recorded.mlp, MlpForm::kNeurons);
  compress(recorded, "again");
  EXPECT_EQ(test::read_file(tmp / "again/model.safetensors"),
            test::read_file(tmp / "pruned/model.safetensors"));
}

TEST_F(SizeOfPrunedMlps, AKilledRunGoesOnFromThePrunedModel) {
  compress(pruning(), "whole");
  const fs::path pruned = tmp / "killed.pruned";
  const auto run = [&](const ProgressFn& progress) {
    compress_model(checkpoint, pruning(), {.out = tmp / "killed"}, {.progress = progress});
  };
  EXPECT_EQ(test::run_in_child([&] {
              run([&](const Progress& /*step*/) {
                if (fs::exists(pruned / "config.json")) test::kill_now();
              });
            }),
            test::ChildEnd::kKilled);
  ASSERT_TRUE(fs::exists(pruned));
  std::set<std::string> stages;
  run([&](const Progress& step) { stages.insert(std::string(step.stage)); });
  EXPECT_FALSE(stages.contains("rank neurons"));
  EXPECT_FALSE(fs::exists(pruned));
  EXPECT_EQ(test::read_file(tmp / "killed/model.safetensors"),
            test::read_file(tmp / "whole/model.safetensors"));

  EXPECT_FALSE(fs::exists(tmp / "killed.pruned.statistics"));

  // What another recipe has left is not taken for it.
  compress(recipe(130e3), "other.pruned");
  EXPECT_THROW(compress(pruning(), "other"), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "other"));
}

TEST_F(SizeOfPrunedMlps, APlanMayPruneFirst) {
  CompressRecipe first = pruning();
  first.mlp = MlpForm::kLowRank;
  compress(first, "whole");
  PlanRecipe asked;
  asked.statistics = tmp / "statistics";
  asked.bytes = 120e3;
  asked.method = "searched";
  asked.forms = first.forms;
  asked.neurons = true;
  const plan::Outline outline = plan::outline(checkpoint);
  const PlanOutcome planned = plan_model(outline, asked, tmp / "plan.json", false);
  EXPECT_FALSE(planned.file.pruning.empty());
  ASSERT_EQ(planned.frontiers.size(), 4U);
  // At the same bytes the frontier with fewer neurons is never above that without.
  const auto loss_at = [](const Frontier& frontier, int64_t bytes) {
    double loss = 1e9;
    for (const plan::Price& point : frontier.points) {
      if (point.cost <= bytes) loss = std::min(loss, point.loss);
    }
    return loss;
  };
  EXPECT_LT(loss_at(planned.frontiers[3], 100000), loss_at(planned.frontiers[0], 100000));

  CompressRecipe by_plan;
  by_plan.plan = plan::read_plan(tmp / "plan.json", checkpoint);
  by_plan.pruning = by_plan.plan->pruning;
  by_plan.mlp = MlpForm::kNeurons;
  by_plan.dtype = torch::kBFloat16;
  by_plan.text = text();
  compress(by_plan, "planned");
  EXPECT_LE(size("planned"), 120e3);
  for (const int64_t neurons : test::mlp_sizes(tmp / "planned")) EXPECT_LE(neurons, 80);
  EXPECT_LT(divergence("planned"), 0.7 * divergence("whole"));
}

TEST_F(Size, BelowTheSmallestFormsNamesWhatCanBeHad) {
  try {
    compress(recipe(5e3), "small");
    FAIL();
  } catch (const c10::ValueError& e) {
    EXPECT_NE(std::string(e.what()).find("out of reach: the smallest forms"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(tmp / "small"));
  EXPECT_FALSE(fs::exists(tmp / "statistics"));
}

}  // namespace
}  // namespace schmidt::pipeline
