#include "schmidt/pipeline/compress_model.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

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
