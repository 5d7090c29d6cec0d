#include "schmidt/model/require_model.h"

#include <limits>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/model.h"

#include "tests/support/compressed_model.h"
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
    EXPECT_NE(refusal(bad).find(name + ": expected a floating type, found Int"), std::string::npos)
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

TEST_F(RequireModel, CompressedLayersByTheirFormsAndTensors) {
  test::CompressedModel models = test::make_compressed_model();
  const test::TinyModel& good = models.compressed;
  EXPECT_EQ(refusal(good), "");
  for (const auto& [name, tensor] : good.tensors) {
    test::TinyModel bad = good;
    bad.tensors.erase(name);
    EXPECT_NE(refusal(bad).find(name + ": expected a tensor"), std::string::npos) << name;
    bad.tensors[name] = torch::zeros({3, 5}, tensor.options());
    EXPECT_NE(refusal(bad).find(name + ": expected shape"), std::string::npos) << name;
  }
  models.form(test::kFixedOut)["out_dims"] = {4, 3, 3};
  EXPECT_NE(refusal(good).find("out_dims: expected a product of 24"), std::string::npos);
  models.form(test::kFixedOut) = {{"kind", "wavelet"}};
  EXPECT_NE(refusal(good).find("expected a kind among"), std::string::npos);
}

TEST_F(RequireModel, WhatTheConfigLeavesOver) {
  test::TinyModel bad = model_;
  bad.config["num_hidden_layers"] = 1;
  EXPECT_NE(refusal(bad).find("expected layers below num_hidden_layers 1"), std::string::npos);
  bad = model_;
  bad.config["compression_config"] = {{"version", 1},
                                      {"layers", {{"model.layers.9.mlp", {{"kind", "mpo"}}}}}};
  EXPECT_NE(refusal(bad).find("found no such layer"), std::string::npos);
}

// Values are no matter of headers: none is read, whatever the model's size.
TEST_F(RequireModel, ReadsNoData) {
  model_.tensors["model.norm.weight"][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(refusal(model_), "");
}

}  // namespace
}  // namespace schmidt::model
