#include "schmidt/pipeline/compress_model.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/generate.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

class CompressModel : public testing::Test {
 protected:
  std::string weights(const fs::path& out) const {
    return test::read_file(out / "model.safetensors");
  }

  CompressOutcome make(const CompressRecipe& recipe, const std::string& out) {
    return compress_model(checkpoint, recipe, {.out = tmp / out}, {});
  }

  /// The model made by the recipe that `out` records.
  void expect_same_again(const std::string& out) {
    const CompressRecipe recorded = recorded_recipe(io::Checkpoint::open(tmp / out), checkpoint);
    make(recorded, out + "-again");
    EXPECT_EQ(weights(tmp / (out + "-again")), weights(tmp / out));
    EXPECT_EQ(to_json(recorded),
              to_json(recorded_recipe(io::Checkpoint::open(tmp / (out + "-again")), checkpoint)));
  }

  static CompressRecipe base(const std::string& method) {
    CompressRecipe recipe;
    recipe.method = method;
    recipe.selection = {{}, {"L7"}};
    recipe.text = {.files = {"self"}, .tokens = 64, .context = 16, .seed = 5};
    return recipe;
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"));
};

TEST_F(CompressModel, ABondIsDoneAgain) {
  CompressRecipe recipe = base("tt-svd");
  recipe.bond = 3;
  recipe.shape.sites = 3;
  recipe.fit.sites = 3;
  recipe.shape.fixed_gauge = false;
  make(recipe, "bond");
  expect_same_again("bond");
}

TEST_F(CompressModel, SweepsAndRoundsAreRecorded) {
  CompressRecipe recipe = base("als");
  recipe.keep = 0.8;
  recipe.fit.als.sweeps = 1;
  recipe.dtype = torch::kBFloat16;
  make(recipe, "als");
  expect_same_again("als");
  recipe.fit.als.sweeps = 3;
  make(recipe, "more");
  EXPECT_NE(weights(tmp / "als"), weights(tmp / "more"));
}

TEST_F(CompressModel, SensitivityOfItsOwnTextIsDoneAgain) {
  CompressRecipe recipe = base("fisher");
  recipe.keep = 0.8;
  recipe.shape.low_rank = true;
  recipe.allocation = Allocation::kSensitivity;
  recipe.share_inputs = true;
  recipe.selection.ignore = {"none"};
  EXPECT_GT(make(recipe, "fisher").predicted_loss.value(), 0.0);
  EXPECT_FALSE(fs::exists(tmp / "fisher.statistics"));
  expect_same_again("fisher");
}

TEST_F(CompressModel, NeuronsThatLoseTheLeastLeaveTheModel) {
  CompressRecipe recipe = base("fisher");
  recipe.keep = 0.8;
  recipe.shape.low_rank = true;
  recipe.allocation = Allocation::kSensitivity;
  recipe.mlp = MlpForm::kNeurons;
  recipe.selection.ignore = {"none"};
  recipe.text.tokens = 512;
  const CompressOutcome pruned = make(recipe, "pruned");
  EXPECT_LE(pruned.result.summary.keep(), 0.8);
  EXPECT_GT(pruned.result.summary.keep(), 0.75);
  const io::Checkpoint found = io::Checkpoint::open(tmp / "pruned");
  const model::ModelConfig config = model::parse_config(found.config(), found.path());
  EXPECT_LT(std::ranges::min(config.mlp_sizes), 36);
  for (int64_t block = 0; block < config.num_layers; ++block) {
    const std::string mlp = model::block_prefix(block) + "mlp.";
    const int64_t size = config.mlp_sizes[static_cast<size_t>(block)];
    EXPECT_EQ(found.load(mlp + "up_proj.weight").sizes(), (std::vector<int64_t>{size, 24}));
    EXPECT_EQ(found.load(mlp + "down_proj.weight").sizes(), (std::vector<int64_t>{24, size}));
    // Rows of gate are the original's.
    const torch::Tensor gate = found.load(mlp + "gate_proj.weight");
    const torch::Tensor all = checkpoint.load(mlp + "gate_proj.weight");
    for (int64_t row = 0; row < size; ++row) {
      EXPECT_TRUE((all == gate[row]).all(1).any().item<bool>()) << mlp << row;
    }
  }
  expect_same_again("pruned");

  // What is pruned is a model like others.
  QuantizeRecipe integers;
  integers.bits = 4;
  integers.group = 2;
  integers.method = "nearest";
  compress_model(found, compress_recipe(integers, found), {.out = tmp / "integers"}, {});
  const io::Checkpoint rounded = io::Checkpoint::open(tmp / "integers");
  EXPECT_EQ(model::parse_config(rounded.config(), "").mlp_sizes, config.mlp_sizes);
  const torch::Tensor ids = torch::tensor({{5, 9, 200, 7, 31}});
  const auto logits = [&](const io::Checkpoint& of) { return model::Model::load(of).forward(ids); };
  EXPECT_LT((logits(rounded) - logits(found)).abs().max().item<double>(), 0.5);
  // A token at a time, as the whole text at once.
  const auto model = model::Model::load(found);
  const auto written = model::generate(model, {{5, 9, 200}}, {.max_new_tokens = 6}).front().ids;
  std::vector<int64_t> text = {5, 9, 200};
  for (const int64_t id : written) {
    const torch::Tensor last = model.forward(torch::tensor(text).unsqueeze(0))[0][-1];
    EXPECT_EQ(last.argmax().item<int64_t>(), id);
    text.push_back(id);
  }

  // Too small a share is refused by what neurons can have, before the text is read.
  CompressRecipe out_of_reach = recipe;
  out_of_reach.text.files = {tmp / "no text"};
  const auto refused = [&] {
    try {
      make(out_of_reach, "out");
    } catch (const c10::ValueError& e) {
      return std::string(e.what_without_backtrace());
    }
    return std::string();
  };
  out_of_reach.keep = 0.3;
  const std::string of_neurons = refused();
  out_of_reach.mlp = MlpForm::kLowRank;
  const std::string of_ranks = refused();
  EXPECT_NE(of_neurons.find("out of reach"), std::string::npos) << of_neurons;
  EXPECT_NE(of_ranks.find("out of reach"), std::string::npos) << of_ranks;
  EXPECT_NE(of_neurons, of_ranks);

  recipe.share_inputs = true;
  EXPECT_THROW(make(recipe, "out"), c10::ValueError);
  recipe.share_inputs = false;
  recipe.allocation = Allocation::kUniform;
  EXPECT_THROW(make(recipe, "out"), c10::ValueError);
  recipe = base("fisher");
  recipe.keep = 0.8;
  recipe.shape.low_rank = true;
  recipe.allocation = Allocation::kSensitivity;
  recipe.mlp = MlpForm::kNeurons;  // but for down, which base() leaves alone
  EXPECT_THROW(make(recipe, "out"), c10::ValueError);
  recipe = base("");
  recipe.plan = plan::PlanFile{};
  for (const plan::Layer& layer : plan::dense_layers(checkpoint)) {
    if (layer.label() == "L5") recipe.plan->layers.push_back(plan::pruned(layer, 4));
  }
  EXPECT_THROW(make(recipe, "out"), c10::ValueError);
}

TEST_F(CompressModel, APlanIsDoneAgain) {
  CompressRecipe recipe = base("");
  plan::PlanFile plan{.made_by = {{"by", "hand"}}};
  plan.layers = plan::plan_bond(plan::dense_layers(checkpoint), {.low_rank = true}, 4);
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    plan.layers[i].method = i % 2 == 0 ? "tt-svd" : "whitened";
  }
  recipe.plan = plan;
  make(recipe, "planned");
  expect_same_again("planned");
}

TEST_F(CompressModel, RefusesRecipesThatDoNotFitBeforeAnythingIsWritten) {
  CompressRecipe recipe = base("whitened");
  recipe.keep = 0.8;
  recipe.allocation = Allocation::kSensitivity;
  EXPECT_THROW(make(recipe, "out"), c10::ValueError);
  recipe = base("fisher");
  recipe.keep = 0.8;
  recipe.allocation = Allocation::kSensitivity;
  recipe.shape.low_rank = false;
  EXPECT_THROW(make(recipe, "out"), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "out"));
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
}

TEST_F(CompressModel, SaysWhatARecordLacks) {
  CompressRecipe recipe = base("tt-svd");
  recipe.bond = 3;
  const nlohmann::json good = to_json(recipe);
  EXPECT_EQ(to_json(parse_compress_recipe(good, checkpoint, "x")), good);
  for (const char* key : {"method", "shape", "gauge", "ridge", "sweeps", "ignore", "bond"}) {
    nlohmann::json bad = good;
    bad.erase(key);
    EXPECT_THROW(parse_compress_recipe(bad, checkpoint, "x"), FormatError) << key;
    bad[key] = nlohmann::json::array({1});
    EXPECT_THROW(parse_compress_recipe(bad, checkpoint, "x"), FormatError) << key;
  }
  EXPECT_THROW(recorded_recipe(checkpoint, checkpoint), FormatError);
}

}  // namespace
}  // namespace schmidt::pipeline
