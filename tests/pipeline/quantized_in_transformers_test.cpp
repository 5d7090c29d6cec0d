#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

/// Checkpoints of integers, as transformers opens them.
class InTransformers : public testing::Test {
 protected:
  fs::path quantize(int bits, bool symmetric, std::optional<int> vocabulary_bits) {
    QuantizeRecipe recipe;
    recipe.bits = bits;
    recipe.group = 12;
    recipe.symmetric = symmetric;
    recipe.method = "nearest";
    recipe.vocabulary_bits = vocabulary_bits;
    const fs::path out = tmp / fmt::format("{}{}", bits, symmetric);
    compress_model(checkpoint, compress_recipe(recipe, checkpoint), {.out = out}, {});
    return out;
  }

  void expect_same_logits(const fs::path& folder, double tolerance) {
    const std::string out = (tmp / "logits.safetensors").string();
    ASSERT_TRUE(test::run_python(
        tmp, fmt::format("huggingface_logits.py {} 5,9,200,7,31 {}", folder.string(), out)));
    const torch::Tensor theirs = io::load_safetensors(out).at("logits");
    const auto logits = [](const io::Checkpoint& c) {
      return model::Model::load(c).forward(torch::tensor({{5, 9, 200, 7, 31}}))[0];
    };
    const torch::Tensor ours = logits(io::Checkpoint::open(folder));
    EXPECT_LT((ours - theirs).abs().max().item<double>(), tolerance);
    EXPECT_GT((ours - logits(checkpoint)).abs().max().item<double>(), 1e-3);
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"));
};

// By compressed-tensors alone: its reader is the truth of our packing.
TEST_F(InTransformers, LinearLayersOpenWithoutCodeOfOurs) {
  for (const auto& [bits, symmetric] : std::vector<std::pair<int, bool>>{
           {4, true}, {4, false}, {3, false}, {2, false}, {5, true}, {6, false}, {8, true}}) {
    const fs::path folder = quantize(bits, symmetric, std::nullopt);
    EXPECT_FALSE(fs::exists(folder / "modeling_schmidt.py"));
    // Zero points have the package multiply in the type of the scales, float16.
    expect_same_logits(folder, symmetric ? 1e-5 : 1e-3);
  }
}

// Low ranks whose factors are integers, and integers with such a low rank beside them.
TEST_F(InTransformers, FactorsAndSumsOpenWithTheFoldersCode) {
  CompressRecipe recipe;
  recipe.plan = plan::PlanFile{};
  for (const plan::Layer& layer : plan::dense_layers(checkpoint)) {
    plan::LayerPlan p{.layer = layer, .method = "nearest"};
    p.shape = tn::low_rank_shape(layer.rows, layer.cols);
    p.max_bonds = {8};
    p.factor_integers = {5, 12, false};
    if (layer.block == 0) p.integers = {2, 12, false};
    recipe.plan->layers.push_back(p);
  }
  const fs::path folder = tmp / "factored";
  compress_model(checkpoint, recipe, {.out = folder}, {});
  expect_same_logits(folder, 1e-5);
}

// A compressed model, low ranks of shared inputs with biases among its layers, all in integers.
TEST_F(InTransformers, LowRanksThatWereQuantizedOpenWithTheFoldersCode) {
  test::TinyModel biased = test::make_tiny_model();
  biased.config["attention_bias"] = true;
  const auto config = model::parse_config(biased.config, "biased");
  for (const model::LayerSpec& layer : model::block_layers(config)) {
    if (layer.bias) biased.tensors[layer.name + ".bias"] = torch::randn({layer.out_features}) * 0.1;
  }
  checkpoint = io::Checkpoint::open(test::write_model(biased, tmp / "biased"));
  CompressRecipe ranks;
  ranks.bond = 11;
  ranks.shape.low_rank = true;
  ranks.share_inputs = true;
  ranks.method = "tt-svd";
  ranks.selection = {{}, {"down_proj"}};
  compress_model(checkpoint, ranks, {.out = tmp / "ranks"}, {});
  const io::Checkpoint compressed = io::Checkpoint::open(tmp / "ranks");
  QuantizeRecipe recipe;
  recipe.bits = 4;
  recipe.group = 12;
  recipe.method = "nearest";
  recipe.vocabulary_bits = 8;
  recipe.selection.include = {"all"};
  compress_model(compressed, compress_recipe(recipe, compressed), {.out = tmp / "integers"}, {});
  expect_same_logits(tmp / "integers", 1e-3);
}

TEST_F(InTransformers, AQuantizedOutputLayerOpensWithTheFoldersCode) {
  test::TinyModel untied = test::make_tiny_model();
  untied.config["tie_word_embeddings"] = false;
  untied.tensors["lm_head.weight"] = torch::randn({264, 24});
  checkpoint = io::Checkpoint::open(test::write_model(untied, tmp / "untied"));
  const fs::path folder = quantize(4, false, 8);
  EXPECT_TRUE(fs::exists(folder / "modeling_schmidt.py"));
  expect_same_logits(folder, 1e-5);
}

// transformers takes zero points to be of one format in all layers.
TEST_F(InTransformers, SeveralFormatsWithZeroPointsOpenWithTheFoldersCode) {
  const auto quantize_part = [&](const io::Checkpoint& from, int bits, int64_t group,
                                 std::vector<std::string> layers, const fs::path& out) {
    QuantizeRecipe recipe;
    recipe.bits = bits;
    recipe.group = group;
    recipe.method = "nearest";
    if (!layers.empty()) recipe.selection = {std::move(layers), {}};
    compress_model(from, compress_recipe(recipe, from), {.out = out}, {});
  };
  quantize_part(checkpoint, 3, 12, {"q_proj"}, tmp / "part");
  quantize_part(io::Checkpoint::open(tmp / "part"), 4, 12, {}, tmp / "both");
  EXPECT_TRUE(fs::exists(tmp / "both/modeling_schmidt.py"));
  expect_same_logits(tmp / "both", 1e-5);

  quantize_part(checkpoint, 4, 0, {}, tmp / "rows");  // of 24 and of 36 columns
  EXPECT_FALSE(fs::exists(tmp / "rows/modeling_schmidt.py"));
  expect_same_logits(tmp / "rows", 1e-3);
}

TEST_F(InTransformers, AQuantizedEmbeddingOpensWithTheFoldersCode) {
  const fs::path folder = quantize(3, false, 8);
  EXPECT_TRUE(fs::exists(folder / "modeling_schmidt.py"));
  expect_same_logits(folder, 1e-5);
  fs::create_directories(tmp / "scratch");
  test::run_python(
      tmp, fmt::format("check_quantized.py {} {}", folder.string(), (tmp / "scratch").string()));
}

}  // namespace
}  // namespace schmidt::pipeline
