#include "schmidt/model/model.h"

#include <limits>

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/checkpoint.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

Model load(const test::TinyModel& model, const LoadOptions& options = {}) {
  return Model::load(model.config, Weights(model.tensors, "tiny", options));
}

std::string message_of(const test::TinyModel& model) {
  try {
    load(model);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "accepted";
}

torch::Tensor some_ids(int64_t b, int64_t t) { return torch::randint(264, {b, t}, torch::kInt64); }

TEST(Model, OpensAFolder) {
  const test::TemporaryFolder folder;
  const test::TinyModel tiny = test::make_tiny_model();
  test::write_model(tiny, folder / "m");
  test::write_file(folder / "m/generation_config.json", R"({"eos_token_id": [5, 6]})");
  const Model model = Model::load(io::Checkpoint::open(folder / "m"));
  EXPECT_EQ(model.num_blocks(), 2);
  EXPECT_EQ(model.config().eos_ids, (std::vector<int64_t>{5, 6}));
  const torch::Tensor ids = some_ids(1, 7);
  EXPECT_TRUE(torch::equal(model.forward(ids), load(tiny).forward(ids)));
}

TEST(Model, PaddingOnTheRightChangesNothingBeforeIt) {
  const Model model = load(test::make_tiny_model());
  const torch::Tensor ids = some_ids(2, 10);
  const torch::Tensor whole = model.hidden(ids);
  EXPECT_TRUE(
      torch::allclose(whole.narrow(1, 0, 6), model.hidden(ids.narrow(1, 0, 6)), 1e-5, 1e-6));
}

TEST(Model, PiecesMakeTheWhole) {
  const Model model = load(test::make_tiny_model(3));
  const torch::Tensor ids = some_ids(2, 5);
  torch::Tensor h = model.embed(ids);
  std::vector<Group> seen;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    BlockPass at = model.block(i).begin(h, model.rope(8));
    for (; at.group(); at.apply()) {
      seen.push_back(*at.group());
      EXPECT_EQ(at.input().size(0) * at.input().size(1), 10);
      EXPECT_EQ(at.input().size(2), at.group() == Group::kDown ? 36 : 24);
    }
    h = at.residual();
  }
  EXPECT_TRUE(torch::equal(model.final_norm(h), model.hidden(ids)));
  EXPECT_EQ(seen.size(), 12);
}

TEST(Model, ListsATiedEmbeddingOnce) {
  const test::TinyModel tiny = test::make_tiny_model();
  int64_t parameters = 0;
  for (const auto& [name, tensor, role] : load(tiny).parameters()) {
    EXPECT_TRUE(tiny.tensors.contains(name)) << name;
    parameters += tensor.numel();
  }
  int64_t stored = 0;
  for (const auto& [name, tensor] : tiny.tensors) stored += tensor.numel();
  EXPECT_EQ(parameters, stored);
}

TEST(Model, RunsInBfloat16) {
  const at::NoGradGuard no_grad;
  const test::TinyModel tiny = test::make_tiny_model();
  const Model half = load(tiny, {.dtype = torch::kBFloat16});
  const torch::Tensor ids = some_ids(1, 6);
  const torch::Tensor logits = half.forward(ids);
  EXPECT_EQ(logits.scalar_type(), torch::kBFloat16);
  const torch::Tensor truth = load(tiny).forward(ids);
  EXPECT_LT((logits.to(torch::kFloat32) - truth).norm().item<float>(),
            0.03 * truth.norm().item<float>());
  KvCache cache = half.make_cache(1, 6);
  EXPECT_TRUE(torch::allclose(half.step(ids, {6}, cache)[0], logits[0][5], 3e-2, 3e-2));
}

TEST(Model, RefusesIdsOutsideTheVocabulary) {
  const Model model = load(test::make_tiny_model());
  EXPECT_THROW(model.forward(torch::tensor({{1, 264}}, torch::kInt64)), c10::ValueError);
  EXPECT_THROW(model.forward(torch::tensor({{-1, 1}}, torch::kInt64)), c10::ValueError);
  EXPECT_THROW(model.forward(torch::tensor({{1.0F}})), c10::ValueError);
}

TEST(Model, AFailedStepLeavesTheCacheAsItWas) {
  const Model model = load(test::make_tiny_model());
  KvCache cache = model.make_cache(2, 4);
  model.step(some_ids(2, 2), {2, 1}, cache);
  const std::vector<int64_t> before = cache.lengths();
  EXPECT_THROW(model.step(some_ids(2, 3), {1, 4}, cache), c10::ValueError);  // longer than ids
  EXPECT_THROW(model.step(some_ids(2, 3), {3, 1}, cache), c10::ValueError);  // no room in row 0
  EXPECT_THROW(model.step(some_ids(2, 1), {1}, cache), c10::ValueError);
  EXPECT_THROW(model.step(some_ids(3, 1), {1, 1, 1}, cache), c10::ValueError);
  EXPECT_THROW(model.step(some_ids(2, 1), {1, -1}, cache), c10::ValueError);
  EXPECT_THROW(model.step(torch::full({2, 1}, 999, torch::kInt64), {1, 1}, cache), c10::ValueError);
  EXPECT_EQ(cache.lengths(), before);
}

TEST(Model, ACacheHasBounds) {
  const Model model = load(test::make_tiny_model());
  EXPECT_THROW(model.make_cache(0, 4), c10::ValueError);
  EXPECT_THROW(model.make_cache(1, 0), c10::ValueError);
  EXPECT_THROW(model.make_cache(1, 129), c10::ValueError);
  KvCache cache = model.make_cache(1, 128);
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.bytes_per_token(), 2 * 2 * 2 * 6 * 4);  // K and V, layers, heads, size, bytes
  EXPECT_THROW(cache.truncate(0, 1), c10::ValueError);
  EXPECT_THROW(cache.truncate(1, 0), c10::ValueError);
}

TEST(Model, RefusesAVocabularyThatIsNotTheEmbeddings) {
  test::TinyModel tiny = test::make_tiny_model();
  tiny.config["vocab_size"] = 300;
  EXPECT_EQ(message_of(tiny),
            "tiny: model.embed_tokens.weight: expected shape [300, 24], found [264, 24]");
}

TEST(Model, RefusesLayersThatAreNotThere) {
  test::TinyModel tiny = test::make_tiny_model();
  tiny.config["num_hidden_layers"] = 3;
  EXPECT_NE(message_of(tiny).find("model.layers.2.input_layernorm.weight: expected a tensor [24], "
                                  "found none"),
            std::string::npos);
}

TEST(Model, RefusesToDropLayers) {
  test::TinyModel tiny = test::make_tiny_model();
  tiny.config["num_hidden_layers"] = 1;
  EXPECT_NE(message_of(tiny).find("expected layers below num_hidden_layers 1"), std::string::npos);
}

TEST(Model, RefusesAnUntiedModelWithoutAnOutputLayer) {
  test::TinyModel tiny = test::make_tiny_model();
  tiny.config["tie_word_embeddings"] = false;
  EXPECT_NE(
      message_of(tiny).find(
          "lm_head.weight: expected a tensor [264, 24], since tie_word_embeddings is not true"),
      std::string::npos);
}

TEST(Model, RefusesWeightsThatAreNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    test::TinyModel tiny = test::make_tiny_model();
    tiny.tensors["model.layers.1.mlp.up_proj.weight"][35][23] = bad;
    EXPECT_EQ(message_of(tiny),
              "tiny: model.layers.1.mlp.up_proj.weight: holds NaN or infinite weights");
  }
}

// A sum of finite weights may overflow: that alone is no reason to refuse.
TEST(Model, AcceptsLargeFiniteWeights) {
  test::TinyModel tiny = test::make_tiny_model();
  tiny.tensors["model.layers.1.mlp.up_proj.weight"].fill_(1e38F);
  EXPECT_EQ(message_of(tiny), "accepted");
}

TEST(Model, RefusesIntegerWeights) {
  test::TinyModel tiny = test::make_tiny_model();
  tiny.tensors["model.norm.weight"] = torch::ones({24}, torch::kInt64);
  EXPECT_NE(message_of(tiny).find("model.norm.weight: expected a floating type, found Long"),
            std::string::npos);
}

TEST(Model, RunsInTwoTypesOnly) {
  EXPECT_THROW(load(test::make_tiny_model(), {.dtype = torch::kFloat16}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::model
