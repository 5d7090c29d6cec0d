#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/model/nf4_matrix.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/plan/forms.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}

class QuantizeToNf4 : public testing::Test {
 protected:
  static QuantizeRecipe recipe(std::optional<int> vocabulary_bits = {}) {
    QuantizeRecipe recipe;
    recipe.nf4 = true;
    recipe.vocabulary_bits = vocabulary_bits;
    return recipe;
  }

  CompressOutcome quantize(const QuantizeRecipe& recipe, const std::string& out) {
    return compress_model(checkpoint, compress_recipe(recipe, checkpoint), {.out = tmp / out}, {});
  }

  json config_of(const std::string& folder) const {
    return json::parse(test::read_file(tmp / folder / "config.json"));
  }

  const std::string layer = "model.layers.1.mlp.down_proj";
  test::TemporaryFolder tmp;
  torch::Tensor ids = [] {
    at::set_num_threads(1);
    at::manual_seed(2);
    return torch::randint(264, {4, 20}, torch::kInt64);
  }();
  io::Checkpoint checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 1, 8), tmp / "m"));
};

TEST_F(QuantizeToNf4, EveryLayerOfTheBlocksIsInItAndTheModelIsNear) {
  const compress::CompressResult result = quantize(recipe(8), "q").result;
  EXPECT_EQ(result.summary.parameters, result.summary.dense_parameters);
  int64_t nf4 = 0, integers = 0;
  for (const package::ModuleSummary& m : result.summary.modules) {
    nf4 += m.kind == "nf4" ? 1 : 0;
    integers += m.kind == "quantized" ? 1 : 0;
  }
  EXPECT_EQ(nf4, 2 * 7);
  EXPECT_EQ(integers, 1) << "the embedding, in 8 bits";
  const io::Checkpoint out = io::Checkpoint::open(tmp / "q");
  const double kl = test::divergence(checkpoint, out, ids);
  QuantizeRecipe three = recipe(8);
  three.nf4 = false;
  three.bits = 3;
  three.group = 96;
  three.method = "nearest";
  quantize(three, "three");
  EXPECT_GT(kl, 0);
  EXPECT_LT(kl, test::divergence(checkpoint, io::Checkpoint::open(tmp / "three"), ids));
  const model::Nf4Matrix expected(model::nf4_encoded(checkpoint.load(layer + ".weight")));
  EXPECT_TRUE(torch::equal(out.load(layer + ".weight"), expected.parts().codes));
  EXPECT_TRUE(torch::equal(out.load(layer + ".weight.absmax"), expected.parts().absmax));
}

TEST_F(QuantizeToNf4, PlannedBytesHoldWhatIsWritten) {
  const CompressRecipe made = compress_recipe(recipe(), checkpoint);
  const compress::CompressResult result = quantize(recipe(), "q").result;
  for (const plan::LayerPlan& p : made.plan->layers) {
    const auto module =
        std::ranges::find(result.summary.modules, p.layer.name, &package::ModuleSummary::name);
    const auto written = static_cast<int64_t>(module->bytes);
    EXPECT_LE(written, plan::stored_bytes(p, 4));
    EXPECT_GE(written, plan::stored_bytes(p, 4) - 900) << "headers of six tensors";
    EXPECT_EQ(plan::form_text(p), "NF4");
  }
}

TEST_F(QuantizeToNf4, AloneItIsAModelOfBitsandbytes) {
  QuantizeRecipe all_but_one = recipe();
  all_but_one.selection = {{}, {layer}};
  quantize(all_but_one, "q");
  const json config = config_of("q").at("quantization_config");
  EXPECT_EQ(config.at("quant_method"), "bitsandbytes");
  EXPECT_EQ(config.at("load_in_4bit"), true);
  EXPECT_EQ(config.at("bnb_4bit_quant_type"), "nf4");
  EXPECT_EQ(config.at("bnb_4bit_use_double_quant"), true);
  EXPECT_EQ(config.at("llm_int8_skip_modules"), (json{"lm_head", layer}));
  EXPECT_FALSE(fs::exists(tmp / "q/modeling_schmidt.py"));
  quantize(recipe(8), "mixed");
  EXPECT_FALSE(config_of("mixed").contains("quantization_config"));
  EXPECT_TRUE(fs::exists(tmp / "mixed/modeling_schmidt.py"));
}

// As transformers leaves it: quantization_config alone, and no form of ours.
TEST_F(QuantizeToNf4, OpensWithoutAWordOfOurs) {
  quantize(recipe(), "q");
  const torch::Tensor ours = test::log_p(io::Checkpoint::open(tmp / "q"), ids);
  json config = config_of("q");
  config.erase("compression_config");
  test::write_file(tmp / "q/config.json", config.dump());
  EXPECT_TRUE(torch::equal(test::log_p(io::Checkpoint::open(tmp / "q"), ids), ours));
  for (const json& wrong : {json(7), json{{"layers", "all"}}}) {
    config["compression_config"] = wrong;
    test::write_file(tmp / "q/config.json", config.dump());
    EXPECT_THROW(io::Checkpoint::open(tmp / "q"), FormatError) << wrong;
  }
}

TEST_F(QuantizeToNf4, ARecipeThatIsRecordedGivesTheSameModelOnAnyNumberOfThreads) {
  quantize(recipe(8), "first");
  at::set_num_threads(2);
  const CompressRecipe recorded = recorded_recipe(io::Checkpoint::open(tmp / "first"), checkpoint);
  compress_model(checkpoint, recorded, {.out = tmp / "second"}, {});
  at::set_num_threads(1);
  EXPECT_EQ(test::read_file(tmp / "first/model.safetensors"),
            test::read_file(tmp / "second/model.safetensors"));
}

TEST_F(QuantizeToNf4, OtherBitsGroupsAndMethodsAreRefusedBeforeAnythingIsWritten) {
  const auto refused = [&](const std::function<void(QuantizeRecipe&)>& change) {
    QuantizeRecipe changed = recipe();
    change(changed);
    return message_of([&] { quantize(changed, "out"); });
  };
  const auto expect_in = [](const std::string& found, const std::string& part) {
    EXPECT_NE(found.find(part), std::string::npos) << found;
  };
  for (const int bits : {2, 3, 5, 6, 8}) {
    expect_in(refused([&](auto& r) { r.bits = bits; }), "NF4 expected 4 bits, got");
  }
  for (const int group : {0, 12, 32, 128}) {
    expect_in(refused([&](auto& r) { r.group = group; }), "NF4 expected groups of 64, got");
  }
  for (const char* method : {"searched", "learned", "tt-svd"}) {
    expect_in(refused([&](auto& r) { r.method = method; }), "NF4 expected method nearest, got");
  }
  EXPECT_FALSE(fs::exists(tmp / "out"));
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
}

TEST_F(QuantizeToNf4, ZerosStayAndInfinityIsRefused) {
  test::TinyModel tiny = test::make_tiny_model();
  const std::string name = "model.layers.0.mlp.up_proj";
  tiny.tensors[name + ".weight"].zero_();
  checkpoint = io::Checkpoint::open(test::write_model(tiny, tmp / "zeros"));
  quantize(recipe(), "out");
  EXPECT_TRUE(test::log_p(io::Checkpoint::open(tmp / "out"), ids).isfinite().all().item<bool>());
  tiny.tensors[name + ".weight"][0][0] = std::numeric_limits<float>::infinity();
  checkpoint = io::Checkpoint::open(test::write_model(tiny, tmp / "infinite"));
  EXPECT_NE(message_of([&] { quantize(recipe(), "infinity"); }).find("NaN or infinite"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(tmp / "infinity"));
}

TEST_F(QuantizeToNf4, NothingIsLeftForASecondTime) {
  quantize(recipe(8), "q");
  checkpoint = io::Checkpoint::open(tmp / "q");
  EXPECT_NE(message_of([&] { quantize(recipe(8), "again"); }).find("nothing is left"),
            std::string::npos);
}

// What bitsandbytes multiplies codes by is float32 whatever the rest is, and scales of integers are
// of the type that their codes were found for.
TEST_F(QuantizeToNf4, ACompressionInAnotherTypeLeavesScalesInTheirs) {
  QuantizeRecipe some = recipe(8);
  some.selection = {{"down_proj"}, {}};
  quantize(some, "q");
  checkpoint = io::Checkpoint::open(tmp / "q");
  CompressRecipe ranks;
  ranks.bond = 4;
  ranks.method = "tt-svd";
  ranks.dtype = torch::kBFloat16;
  ranks.selection = {{"gate_proj"}, {}};
  compress_model(checkpoint, ranks, {.out = tmp / "ranks"}, {});
  const io::Checkpoint out = io::Checkpoint::open(tmp / "ranks");
  for (const char* end : {".weight", ".weight.quant_map", ".weight.nested_absmax",
                          ".weight.nested_quant_map", ".weight.absmax"}) {
    const std::string name = layer + end;
    EXPECT_TRUE(torch::equal(out.load(name), checkpoint.load(name))) << name;
    EXPECT_EQ(out.tensors().at(name).dtype, checkpoint.tensors().at(name).dtype) << name;
  }
  EXPECT_EQ(out.tensors().at("model.embed_tokens.weight_scale").dtype, torch::kFloat16);
  EXPECT_EQ(out.tensors().at("model.norm.weight").dtype, torch::kBFloat16);
}

}  // namespace
}  // namespace schmidt::pipeline
