#include <algorithm>
#include <fstream>
#include <set>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/package/summary.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/heal_model.h"
#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/plan/compressed_layers.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

/// Models that are compressed to networks, and then quantized.
class QuantizeNetworks : public testing::Test {
 protected:
  QuantizeNetworks() {
    at::set_num_threads(1);
    test::write_model(test::make_tiny_model(2, 1, 2), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    CompressRecipe ranks;
    ranks.bond = 17;  // of no common divisor with any group
    ranks.shape.low_rank = true;
    ranks.method = "tt-svd";
    ranks.selection = {{}, {"down_proj"}};
    compress_model(open("m"), ranks, {.out = tmp / "ranks"}, {});
    ids = torch::randint(264, {4, 20}, torch::kInt64);
  }

  io::Checkpoint open(const std::string& name) const { return io::Checkpoint::open(tmp / name); }

  static QuantizeRecipe recipe(int bits, std::vector<std::string> layers = {"all"},
                               const std::string& method = "nearest") {
    QuantizeRecipe recipe;
    recipe.bits = bits;
    recipe.group = 12;
    recipe.method = method;
    recipe.selection.include = std::move(layers);
    recipe.fit.steps = 100;
    recipe.text = {.files = {"self"}, .tokens = 1024, .context = 16, .seed = 5};
    return recipe;
  }

  package::ModelSummary quantize(const std::string& from, const QuantizeRecipe& recipe,
                                 const std::string& out) {
    const io::Checkpoint model = open(from);
    return compress_model(model, compress_recipe(recipe, model), {.out = tmp / out}, {})
        .result.summary;
  }

  std::string refused(const std::string& from, const QuantizeRecipe& recipe) {
    try {
      quantize(from, recipe, "refused");
    } catch (const c10::Error& e) {
      EXPECT_FALSE(fs::exists(tmp / "refused"));
      return e.what_without_backtrace();
    }
    return "nothing was thrown";
  }

  static int64_t count(const package::ModelSummary& summary, const std::string& kind) {
    return std::ranges::count(summary.modules, kind, &package::ModuleSummary::kind);
  }

  double divergence(const std::string& from, const std::string& to) const {
    return test::divergence(open(from), open(to), ids);
  }

  test::TemporaryFolder tmp;
  torch::Tensor ids;
};

TEST_F(QuantizeNetworks, FewerBitsOfFactorsAreFewerBytesAndLoseMore) {
  uint64_t bytes = package::summarize(open("ranks")).bytes;
  double before = 0;
  for (const int bits : {8, 6, 4, 3, 2}) {
    const std::string out = std::to_string(bits);
    const package::ModelSummary summary = quantize("ranks", recipe(bits), out);
    EXPECT_EQ(count(summary, "factored"), 2 * 6);
    EXPECT_EQ(count(summary, "quantized"), 2);
    for (const package::ModuleSummary& module : summary.modules) {
      if (module.kind != "factored") continue;
      EXPECT_EQ(module.parameters, 17 * (module.shape[0] + module.shape[1])) << "plain factors";
    }
    EXPECT_LT(summary.bytes, bytes);
    const double kl = divergence("ranks", out);
    EXPECT_GT(kl, before) << bits;
    bytes = summary.bytes;
    before = kl;
  }
  EXPECT_LT(divergence("ranks", "8"), 1e-4);
}

// Rounded as they are stored, pivots' coefficients would multiply every error.
TEST_F(QuantizeNetworks, TheGaugeThatIsStoredMakesNoDifference) {
  CompressRecipe ranks;
  ranks.bond = 17;
  ranks.shape = {.low_rank = true, .fixed_gauge = false};
  ranks.method = "tt-svd";
  ranks.selection = {{}, {"down_proj"}};
  compress_model(open("m"), ranks, {.out = tmp / "full"}, {});
  quantize("full", recipe(4), "of_full");
  quantize("ranks", recipe(4), "of_fixed");
  const double full = divergence("m", "of_full"), fixed = divergence("m", "of_fixed");
  EXPECT_NEAR(full, fixed, 0.05 * full);
}

TEST_F(QuantizeNetworks, RangesThatAreSearchedAndRoundingThatIsLearnedLoseLess) {
  for (const char* method : {"nearest", "searched", "learned"}) {
    quantize("ranks", recipe(3, {"all"}, method), method);
  }
  const double nearest = divergence("ranks", "nearest");
  EXPECT_LT(divergence("ranks", "searched"), nearest);
  EXPECT_LT(divergence("ranks", "learned"), nearest);
}

TEST_F(QuantizeNetworks, APatternTakesWhatItNames) {
  const package::ModelSummary dense = quantize("ranks", recipe(4, {}), "dense");
  EXPECT_EQ(count(dense, "quantized"), 2);
  EXPECT_EQ(count(dense, "mpo"), 2 * 6);
  const package::ModelSummary some =
      quantize("ranks", recipe(4, {"q_proj", "model.layers.0.mlp.*"}), "some");
  EXPECT_EQ(count(some, "factored"), 2 + 2);
  EXPECT_EQ(count(some, "quantized"), 1);
  EXPECT_EQ(count(some, "mpo"), 2 * 6 - 4);
  // What is left is taken by the next.
  const package::ModelSummary rest = quantize("some", recipe(8), "rest");
  EXPECT_EQ(count(rest, "factored"), 2 * 6);
  EXPECT_EQ(count(rest, "quantized"), 2);
}

TEST_F(QuantizeNetworks, NothingIsQuantizedTwice) {
  quantize("ranks", recipe(4), "all");
  EXPECT_NE(refused("all", recipe(4))
                .find("nothing is left to round of the selected layers: the "
                      "model has 0 dense ones, 14 that are quantized already"),
            std::string::npos);
  EXPECT_NE(refused("all", recipe(4, {"q_proj"})).find("not quantized yet, got q_proj"),
            std::string::npos);
  EXPECT_NE(refused("all", recipe(4, {"down_proj"})).find("not quantized yet, got down_proj"),
            std::string::npos);
  EXPECT_NE(refused("ranks", recipe(4, {"donw_proj"})).find("matches \"donw_proj\""),
            std::string::npos);
}

TEST_F(QuantizeNetworks, LayersHeldAsOneWithTheirBiases) {
  test::write_model(test::make_compressed_model().compressed, tmp / "forms");
  const io::Checkpoint forms = open("forms");
  const auto compressed =
      plan::compressed_layers(model::parse_config(forms.config(), forms.path()), forms.path());
  std::set<std::string> low_ranks;
  for (const auto& l : compressed.low_ranks) low_ranks.insert(l.layer.name);
  EXPECT_TRUE(low_ranks.contains(test::kFusedQkv));
  EXPECT_TRUE(low_ranks.contains(test::kFixedKey));
  EXPECT_FALSE(low_ranks.contains(test::kFixedOut));
  for (const char* method : {"nearest", "searched", "learned"}) {
    const package::ModelSummary summary = quantize("forms", recipe(8, {"all"}, method), method);
    EXPECT_EQ(count(summary, "factored"), static_cast<int64_t>(low_ranks.size()));
    EXPECT_EQ(count(summary, "mpo") + count(summary, "sum"),
              static_cast<int64_t>(compressed.networks.size()));
    EXPECT_LT(divergence("forms", method), 1e-3);
  }
  const auto notes = quantize_notes(recipe(8), forms);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_TRUE(notes[0].starts_with(std::to_string(compressed.networks.size()) + " layers are"));
  EXPECT_TRUE(quantize_notes(recipe(8, {"dense"}), forms).empty());
  EXPECT_NE(refused("forms", recipe(8, {test::kFixedOut})).find("networks of other sites"),
            std::string::npos);
}

TEST_F(QuantizeNetworks, ARecipeThatIsRecordedGivesTheSameModel) {
  quantize("ranks", recipe(3), "first");
  const io::Checkpoint ranks = open("ranks");
  const nlohmann::json steps = open("first").config()["compression_config"]["made_by"];
  compress_model(ranks, parse_compress_recipe(steps.back(), ranks, "first"),
                 {.out = tmp / "second"}, {});
  EXPECT_EQ(test::read_file(tmp / "first/model.safetensors"),
            test::read_file(tmp / "second/model.safetensors"));
}

class HealedAndQuantized : public QuantizeNetworks {
 protected:
  HealedAndQuantized() {
    std::vector<int64_t> bytes;
    for (const char c : std::string("Number 21 is a number of its own.")) bytes.push_back(c + 3);
    ids = torch::tensor(bytes, torch::kInt64).unsqueeze(0);  // a sentence like those that heal
  }

  void heal(const std::string& from, const std::string& out) {
    std::ofstream file(tmp / "sentences.jsonl");
    for (int i = 0; i < 20; ++i) {
      file << nlohmann::json{{"text", "Number " + std::to_string(i) + " is a number of its own."}}
           << "\n";
    }
    file.close();
    heal::HealOptions options;
    options.data = {{tmp / "sentences.jsonl", 1.0}};
    options.stream.context = 32;
    options.stream.held_out = 2;
    options.model_level.batch = 2;
    options.model_level.micro_batch = 2;
    options.model_level.weights = {0.0, 1.0};
    options.model_level.schedule.peak = 3e-3;
    options.tokens = 30 * 2 * 32;
    heal_model(open(from), open("m"), options, {.out = tmp / out}, {});
  }
};

TEST_F(HealedAndQuantized, InEitherOrder) {
  quantize("ranks", recipe(3), "quantized");
  heal("quantized", "quantized_healed");
  const package::ModelSummary summary = package::summarize(open("quantized_healed"));
  EXPECT_EQ(count(summary, "factored"), 2 * 6);
  EXPECT_EQ(summary.bytes, package::summarize(open("quantized")).bytes);
  EXPECT_LT(divergence("m", "quantized_healed"), divergence("m", "quantized"));
  heal("ranks", "healed");
  quantize("healed", recipe(8), "healed_quantized");
  EXPECT_LT(divergence("healed", "healed_quantized"), 1e-3);
  EXPECT_LT(divergence("m", "healed_quantized"), divergence("m", "ranks"));
}

}  // namespace
}  // namespace schmidt::pipeline
