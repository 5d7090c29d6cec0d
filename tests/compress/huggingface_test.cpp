#include <cstdlib>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/compress/compress.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::compress {
namespace {

// What AutoModelForCausalLM computes from a folder, in a process of its own.
torch::Tensor transformers_logits(const test::TemporaryFolder& tmp, const std::string& folder) {
  const std::string out = (tmp / "logits.safetensors").string();
  const std::string command = fmt::format(
      "HF_HOME={} HF_HUB_OFFLINE=1 {}/.venv/bin/python {}/python/huggingface_logits.py {} "
      "5,9,200,7,31 {} "
      "2>{}",
      (tmp / "hf").string(), test::source_dir().string(), test::source_dir().string(), folder, out,
      (tmp / "stderr").string());
  if (std::system(command.c_str()) != 0) {
    ADD_FAILURE() << test::read_file(tmp / "stderr");
    return {};
  }
  return io::load_safetensors(out).at("logits");
}

TEST(HuggingFace, OpensACompressedCheckpointWithTheSameLogits) {
  test::TemporaryFolder tmp;
  const auto checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"));
  const auto layers = dense_layers(checkpoint);
  // Two and three sites side by side, down_proj and a whole block left dense.
  auto plan =
      plan_bond(select_layers(layers, {{"model.layers.0.self_attn.*"}, {}}), {.sites = 3}, 6);
  for (LayerPlan& p : plan_bond(select_layers(layers, {{"gate_proj", "up_proj"}, {}}), {}, 9)) {
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

}  // namespace
}  // namespace schmidt::compress
