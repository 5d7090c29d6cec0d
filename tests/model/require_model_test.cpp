#include "schmidt/model/require_model.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/model.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

class RequireModel : public testing::Test {
 protected:
  // The message of the refusal; empty where there is none.
  std::string refusal(const test::TinyModel& model) const {
    const auto checkpoint = io::Checkpoint::open(test::write_model(model, tmp_ / "m"));
    try {
      require_model(checkpoint);
      return "";
    } catch (const FormatError& error) {
      return error.what();
    }
  }

  test::TemporaryFolder tmp_;
  test::TinyModel model_ = test::make_tiny_model();
};

TEST_F(RequireModel, EveryTensorThatAModelReadsIsAskedFor) {
  EXPECT_EQ(refusal(model_), "");
  for (const auto& [name, tensor] : model_.tensors) {
    test::TinyModel bad = model_;
    bad.tensors.erase(name);
    EXPECT_NE(refusal(bad).find(name + ": expected a tensor"), std::string::npos) << name;
    bad.tensors[name] = tensor.to(torch::kInt32);
    EXPECT_NE(refusal(bad).find(name + ": expected a floating type, found I32"), std::string::npos)
        << name;
    bad.tensors[name] = torch::zeros({3, 5});
    EXPECT_NE(refusal(bad).find(name + ": expected shape"), std::string::npos) << name;
  }
}

TEST_F(RequireModel, BiasesNormsAndHeadWhereTheConfigHasThem) {
  model_.config["tie_word_embeddings"] = false;
  const std::string missing =
      "lm_head.weight: expected a tensor [264, 24], since tie_word_embeddings is not true";
  EXPECT_NE(refusal(model_).find(missing), std::string::npos) << refusal(model_);
  try {
    Model::load(io::Checkpoint::open(tmp_ / "m"));
    ADD_FAILURE() << "expected a refusal";
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find(missing), std::string::npos) << error.what();
  }
  model_.tensors["lm_head.weight"] = torch::ones({264, 24});
  EXPECT_EQ(refusal(model_), "");
  model_.config["model_type"] = "qwen3";
  EXPECT_NE(refusal(model_).find("q_norm"), std::string::npos);
  model_.config["model_type"] = "qwen2";
  EXPECT_NE(refusal(model_).find("q_proj.bias"), std::string::npos);
  model_.config["model_type"] = "gpt_neox";
  EXPECT_NE(refusal(model_).find("gpt_neox"), std::string::npos);
}

TEST_F(RequireModel, CompressedLayersHoldNoWeight) {
  model_.tensors.erase("model.layers.1.mlp.down_proj.weight");
  model_.tensors.erase("model.layers.0.mlp.gate_proj.weight");
  model_.tensors.erase("model.layers.0.mlp.up_proj.weight");
  nlohmann::json& layers = model_.config["compression_config"]["layers"];
  model_.config["compression_config"]["version"] = 1;
  layers["model.layers.1.mlp.down_proj"] = {{"kind", "mpo"}};
  layers["model.layers.0.mlp.gate_up_proj"] = {{"kind", "mpo"}};
  EXPECT_EQ(refusal(model_), "");
}

}  // namespace
}  // namespace schmidt::model
