#include "schmidt/convert/rotated.h"

#include <cmath>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/pipeline/export_model.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const torch::Tensor kIds = torch::tensor({{5, 9, 200, 7, 31, 8, 77, 3}});

torch::Tensor logits(const fs::path& folder) {
  return model::Model::load(io::Checkpoint::open(folder)).forward(kIds)[0];
}

void rotate(const fs::path& from, const fs::path& to, uint64_t seed = 7) {
  pipeline::export_model(io::Checkpoint::open(from),
                         {.target = pipeline::ExportTarget::kDense, .rotation = seed}, {.out = to},
                         {});
}

TEST(RandomRotation, IsOrthogonalAndFlat) {
  for (const int64_t n : {1, 2, 6, 24, 64, 96}) {
    const torch::Tensor r = random_rotation(n, 3);
    EXPECT_LT((r.matmul(r.t()) - torch::eye(n)).abs().max().item<double>(), 1e-5) << n;
    EXPECT_TRUE(torch::equal(r, random_rotation(n, 3))) << n;
  }
  const torch::Tensor power = random_rotation(64, 3);
  EXPECT_TRUE(torch::allclose(power.abs(), torch::full({64, 64}, 1.0 / 8)));
  EXPECT_FALSE(torch::equal(power, random_rotation(64, 4)));
}

class RotatedModelTest : public testing::Test {
 protected:
  // That of the family computes the same, from other weights that no norm scales.
  void expect_same(const std::string& family, const json& changes) const {
    const fs::path model = tmp / family, turned = tmp / (family + "_turned");
    test::write_model(test::make_tiny_model_of(family, changes), model);
    test::write_byte_tokenizer(model);
    rotate(model, turned);
    const torch::Tensor expected = logits(model), found = logits(turned);
    EXPECT_LT((found - expected).abs().max().item<double>(),
              2e-5 * (1 + expected.abs().max().item<double>()))
        << family;
    const io::Checkpoint before = io::Checkpoint::open(model), after = io::Checkpoint::open(turned);
    for (const auto& [name, info] : after.tensors()) {
      const torch::Tensor tensor = after.load(name);
      if (name.ends_with("norm.weight") && tensor.size(0) == 24) {
        EXPECT_TRUE(torch::equal(tensor, torch::ones({24}))) << family << " " << name;
      } else if (name.ends_with("_proj.weight") || name == "model.embed_tokens.weight") {
        EXPECT_FALSE(torch::allclose(tensor, before.load(name), 1e-3, 1e-3)) << family << name;
      }
    }
  }

  test::TemporaryFolder tmp;
};

TEST_F(RotatedModelTest, ComputesTheSameInEveryFamilyOfNormsInFront) {
  const json experts = {{"tie_word_embeddings", false},
                        {"pad_token_id", nullptr},
                        {"num_experts_per_tok", 2},
                        {"moe_intermediate_size", 20}};
  const auto with = [](json config, const json& changes) {
    config.update(changes);
    return config;
  };
  expect_same("llama", {{"attention_bias", true}, {"mlp_bias", true}});  // tied
  expect_same("qwen3", {{"tie_word_embeddings", false}});
  expect_same("granite", {{"embedding_multiplier", 6.0},
                          {"residual_multiplier", 0.5},
                          {"logits_scaling", 0.25},
                          {"attention_bias", true}});
  expect_same("phi3", {{"tie_word_embeddings", false}, {"pad_token_id", nullptr}});
  expect_same("mixtral", with(experts, {{"num_local_experts", 4}, {"sliding_window", nullptr}}));
  expect_same("qwen2_moe",
              with(experts, {{"num_experts", 4}, {"shared_expert_intermediate_size", 28}}));
}

TEST_F(RotatedModelTest, IsAModelOfTransformers) {
  const fs::path model = tmp / "m", turned = tmp / "t";
  test::write_model(test::make_tiny_model_of("llama", {{"attention_bias", true}}), model);
  test::write_byte_tokenizer(model);
  rotate(model, turned);
  const std::string out = (tmp / "logits.safetensors").string();
  ASSERT_TRUE(test::run_python(
      tmp, fmt::format("huggingface_logits.py {} 5,9,200,7,31,8,77,3 {}", turned.string(), out)));
  const torch::Tensor found = io::load_safetensors(out).at("logits"), expected = logits(model);
  EXPECT_LT((found - expected).abs().max().item<double>(),
            2e-5 * (1 + expected.abs().max().item<double>()));
}

TEST_F(RotatedModelTest, RefusesWhatDoesNotTurn) {
  const auto expect_refused = [&](const fs::path& model, const std::string& part) {
    test::write_byte_tokenizer(model);
    try {
      rotate(model, tmp / "out");
      ADD_FAILURE() << "expected a refusal that says " << part;
    } catch (const c10::ValueError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
    EXPECT_FALSE(fs::exists(tmp / "out"));
  };
  expect_refused(
      test::write_model(test::make_tiny_model_of(
                            "olmo2", {{"tie_word_embeddings", false}, {"pad_token_id", nullptr}}),
                        tmp / "olmo2"),
      "olmo2");
  expect_refused(test::write_model(test::make_compressed_model().compressed, tmp / "c"),
                 "none of whose layers is compressed");
}

}  // namespace
}  // namespace schmidt::convert
