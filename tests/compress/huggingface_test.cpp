#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/compress/compress.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/package/remote_code.h"
#include "schmidt/plan/uniform.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::compress {
namespace {

// What AutoModelForCausalLM computes from a folder.
torch::Tensor transformers_logits(const test::TemporaryFolder& tmp, const std::string& folder) {
  const std::string out = (tmp / "logits.safetensors").string();
  if (!test::run_python(tmp,
                        fmt::format("huggingface_logits.py {} 5,9,200,7,31 {}", folder, out))) {
    return {};
  }
  return io::load_safetensors(out).at("logits");
}

TEST(HuggingFace, OpensACompressedCheckpointWithTheSameLogits) {
  test::TemporaryFolder tmp;
  const auto checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"));
  const auto layers = plan::dense_layers(checkpoint);
  // Two and three sites side by side, down_proj and a whole block left dense.
  auto plan = plan::plan_bond(plan::select_layers(layers, {{"model.layers.0.self_attn.*"}, {}}),
                              {.sites = 3}, 6);
  for (plan::LayerPlan& p :
       plan::plan_bond(plan::select_layers(layers, {{"gate_proj", "up_proj"}, {}}), {}, 9)) {
    plan.push_back(std::move(p));
  }
  compress(checkpoint, plan, tmp / "out", {});

  const torch::Tensor theirs = transformers_logits(tmp, (tmp / "out").string());
  ASSERT_TRUE(theirs.defined());
  const auto model = model::Model::load(io::Checkpoint::open(tmp / "out"));
  const torch::Tensor ours = model.forward(torch::tensor({{5, 9, 200, 7, 31}}))[0];
  EXPECT_LT((ours - theirs).abs().max().item<double>(), 1e-5);

  const auto original = model::Model::load(checkpoint);
  EXPECT_GT(
      (ours - original.forward(torch::tensor({{5, 9, 200, 7, 31}}))[0]).abs().max().item<double>(),
      1e-3)
      << "the compressed layers must be in use";
}

class StoredForms : public testing::Test {
 protected:
  // Layers shared by a group, with fixed gauge on two and three sites, and in sums.
  void SetUp() override {
    package::add_remote_code(folder_, models_.compressed.config);
    test::write_model(models_.compressed, folder_);
  }

  test::TemporaryFolder tmp_;
  test::CompressedModel models_ = test::make_compressed_model();
  std::filesystem::path folder_ = [this] {
    std::filesystem::create_directories(tmp_ / "m");
    return tmp_ / "m";
  }();
};

TEST_F(StoredForms, HaveTheSameLogitsInTransformers) {
  const torch::Tensor theirs = transformers_logits(tmp_, folder_.string());
  ASSERT_TRUE(theirs.defined());
  const auto logits = [](const test::TinyModel& tiny) {
    const auto model = model::Model::load(tiny.config, model::Weights(tiny.tensors, "tiny"));
    return model.forward(torch::tensor({{5, 9, 200, 7, 31}}))[0];
  };
  EXPECT_LT((logits(models_.compressed) - theirs).abs().max().item<double>(), 1e-5);
  EXPECT_LT((logits(models_.dense) - theirs).abs().max().item<double>(), 1e-5);
}

TEST_F(StoredForms, TrainGenerateCopyAndSaveInTransformers) {
  std::filesystem::create_directories(tmp_ / "scratch");
  test::run_python(tmp_, fmt::format("check_huggingface.py {} {}", folder_.string(),
                                     (tmp_ / "scratch").string()));
}

}  // namespace
}  // namespace schmidt::compress
