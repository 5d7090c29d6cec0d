#include "schmidt/io/tied_head.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/io/safetensors.h"

#include "tests/support/support.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

class TiedHead : public testing::Test {
 protected:
  Checkpoint open(const json& config,
                  const std::vector<std::pair<std::string, torch::Tensor>>& tensors) const {
    test::write_file(tmp_ / "config.json", config.dump());
    save_safetensors(tmp_ / "model.safetensors", tensors);
    return Checkpoint::open(tmp_.path());
  }

  test::TemporaryFolder tmp_;
  const json tied_ = {{"tie_word_embeddings", true}};
  const torch::Tensor embedding_ = torch::randn({7, 5});
};

TEST_F(TiedHead, OneOfTheEmbeddingsBytesIsLeftOut) {
  const auto model = open(tied_, {{kEmbedding, embedding_}, {kHead, embedding_.clone()}});
  EXPECT_EQ(model.config().at("tie_word_embeddings"), true);
  EXPECT_FALSE(model.tensors().contains(kHead));
  ASSERT_EQ(model.notes().size(), 1U);
  EXPECT_NE(model.notes().front().find("lm_head.weight equals the tied embedding"),
            std::string::npos);
}

TEST_F(TiedHead, AnyOtherIsUsedUntied) {
  torch::Tensor last = embedding_.clone();
  last[6][4] += 1e-6F;
  for (const torch::Tensor& head :
       {last, embedding_.to(torch::kFloat64), embedding_.narrow(0, 0, 6).clone()}) {
    const auto model = open(tied_, {{kEmbedding, embedding_}, {kHead, head}});
    EXPECT_EQ(model.config().at("tie_word_embeddings"), false);
    EXPECT_TRUE(torch::equal(model.load(kHead), head));
    EXPECT_TRUE(torch::equal(model.load(kEmbedding), embedding_));
    ASSERT_EQ(model.notes().size(), 1U);
    EXPECT_NE(model.notes().front().find("the stored head is used, untied"), std::string::npos);
  }
}

TEST_F(TiedHead, EqualNumbersWithOtherScalesDiffer) {
  const torch::Tensor values = embedding_.to(torch::kFloat8_e4m3fn);
  const std::string scale = "_scale";
  const auto model = open(tied_, {{kEmbedding, values},
                                  {kEmbedding + scale, torch::tensor(1.0F)},
                                  {kHead, values.clone()},
                                  {kHead + scale, torch::tensor(2.0F)}});
  EXPECT_EQ(model.config().at("tie_word_embeddings"), false);
  EXPECT_TRUE(torch::equal(model.load(kHead), 2 * model.load(kEmbedding)));
}

// As safetensors' save_model leaves it, which keeps the first of two names.
TEST_F(TiedHead, TheEmbeddingUnderTheHeadsName) {
  const auto model = open(tied_, {{kHead, embedding_}});
  EXPECT_TRUE(torch::equal(model.load(kEmbedding), embedding_));
  EXPECT_FALSE(model.tensors().contains(kHead));
  EXPECT_EQ(model.config().at("tie_word_embeddings"), true);
}

// As a model that is saved without its output layer names them, and its opposite.
TEST_F(TiedHead, NamesWithoutThePrefixOrWithTwo) {
  for (const std::string prefix : {"", "model.model."}) {
    const auto model = open(tied_, {{prefix + "embed_tokens.weight", embedding_},
                                    {prefix + "norm.weight", torch::ones({5})},
                                    {kHead, embedding_ + 1}});
    EXPECT_TRUE(torch::equal(model.load(kEmbedding), embedding_)) << prefix;
    EXPECT_TRUE(model.tensors().contains("model.norm.weight")) << prefix;
    EXPECT_TRUE(torch::equal(model.load(kHead), embedding_ + 1)) << prefix;
  }
}

TEST_F(TiedHead, ABlankGenerationConfigIsNone) {
  test::write_file(tmp_ / "generation_config.json", " \n");
  EXPECT_TRUE(open(tied_, {{kEmbedding, embedding_}}).generation_config().empty());
}

TEST_F(TiedHead, WhereTheConfigIsClearNothingIsDecided) {
  const std::vector<std::pair<std::string, torch::Tensor>> both = {{kEmbedding, embedding_},
                                                                   {kHead, embedding_.clone()}};
  for (const json& config : {json::object(), json{{"tie_word_embeddings", false}},
                             json{{"tie_word_embeddings", nullptr}}}) {
    const auto model = open(config, both);
    EXPECT_EQ(model.tensors().size(), 2U);
    EXPECT_TRUE(model.notes().empty());
    EXPECT_EQ(model.config(), config);
  }
  EXPECT_TRUE(open(tied_, {{kEmbedding, embedding_}}).notes().empty());

  json compressed = tied_;
  compressed["compression_config"]["layers"]["lm_head"] = {{"kind", "dense"}};
  const auto model = open(compressed, {{kEmbedding, embedding_}, {kHead, embedding_ + 1}});
  EXPECT_EQ(model.tensors().size(), 2U);
  EXPECT_EQ(model.config(), compressed);
}

}  // namespace
}  // namespace schmidt::io
