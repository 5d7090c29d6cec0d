#include <algorithm>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/model/quantized_matrix.h"
#include "schmidt/package/summary.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}

class Quantize : public testing::Test {
 protected:
  static QuantizeRecipe recipe(int bits, const std::string& method = "nearest") {
    QuantizeRecipe recipe;
    recipe.bits = bits;
    recipe.group = 12;
    recipe.method = method;
    recipe.vocabulary_bits = 8;
    recipe.fit.steps = 100;
    recipe.text = {.files = {"self"}, .tokens = 1024, .context = 16, .seed = 5};
    return recipe;
  }

  package::ModelSummary quantize(const QuantizeRecipe& recipe, const std::string& out) {
    return compress_model(checkpoint, compress_recipe(recipe, checkpoint), {.out = tmp / out}, {})
        .result.summary;
  }

  /// KL(original || quantized), nats a token.
  double divergence(const std::string& out) const {
    return test::divergence(checkpoint, io::Checkpoint::open(tmp / out), ids);
  }

  test::TemporaryFolder tmp;
  torch::Tensor ids = [] {
    at::set_num_threads(1);
    at::manual_seed(2);
    return torch::randint(264, {4, 20}, torch::kInt64);
  }();
  io::Checkpoint checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"));
};

TEST_F(Quantize, FewerBitsAreFewerBytesAndLoseMore) {
  double before = 0;
  uint64_t bytes = UINT64_MAX;
  for (const int bits : {8, 6, 5, 4, 3, 2}) {
    const package::ModelSummary summary = quantize(recipe(bits), std::to_string(bits));
    EXPECT_EQ(summary.parameters, summary.dense_parameters) << "rounding removes no parameter";
    EXPECT_LT(summary.bytes, bytes);
    const double kl = divergence(std::to_string(bits));
    EXPECT_GT(kl, before) << bits;
    before = kl;
    bytes = summary.bytes;
  }
  EXPECT_LT(divergence("8"), 1e-4);
}

TEST_F(Quantize, RangesThatAreSearchedAndRoundingThatIsLearnedLoseLess) {
  for (const int bits : {3, 2}) {
    const std::string n = std::to_string(bits);
    for (const char* method : {"nearest", "searched", "learned"}) {
      quantize(recipe(bits, method), method + n);
    }
    EXPECT_LT(divergence("searched" + n), divergence("nearest" + n)) << bits;
    EXPECT_LT(divergence("learned" + n), divergence("searched" + n)) << bits;
  }
}

TEST_F(Quantize, LearningGivesTheSameBytesAgainAndAfterAKill) {
  quantize(recipe(2, "learned"), "whole");
  int killed = 0;
  for (int calls = 40; calls < 400 && killed < 3; calls += 40) {
    const std::string out = "killed" + std::to_string(calls);
    const auto end = test::run_in_child([&] {
      const auto kill = test::kill_at(calls);
      compress_model(checkpoint, compress_recipe(recipe(2, "learned"), checkpoint),
                     {.out = tmp / out}, {.progress = kill});
    });
    if (end != test::ChildEnd::kKilled) break;
    ++killed;
    EXPECT_FALSE(fs::exists(tmp / out));
    quantize(recipe(2, "learned"), out);
    EXPECT_EQ(test::read_file(tmp / out / "model.safetensors"),
              test::read_file(tmp / "whole/model.safetensors"));
  }
  EXPECT_GT(killed, 0);
}

TEST_F(Quantize, OfWhatIsNotCompressedYet) {
  CompressRecipe ranks;
  ranks.bond = 4;
  ranks.method = "tt-svd";
  ranks.selection = {{"gate_proj", "up_proj"}, {}};
  compress_model(checkpoint, ranks, {.out = tmp / "ranks"}, {});
  checkpoint = io::Checkpoint::open(tmp / "ranks");
  const package::ModelSummary summary = quantize(recipe(4), "both");
  const auto kinds = [&](const std::string& kind) {
    return std::ranges::count(summary.modules, kind, &package::ModuleSummary::kind);
  };
  EXPECT_EQ(kinds("mpo"), 4);
  EXPECT_EQ(kinds("quantized"), 2 * 5 + 1);
  EXPECT_TRUE(test::log_p(io::Checkpoint::open(tmp / "both"), ids).isfinite().all().item<bool>());
  checkpoint = io::Checkpoint::open(tmp / "both");
  EXPECT_NE(message_of([&] { quantize(recipe(4), "again"); }).find("nothing is left"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(tmp / "again"));
}

// As llm-compressor leaves it: quantization_config alone says how layers are stored.
TEST_F(Quantize, OpensWhatCompressedTensorsHasPacked) {
  for (const int bits : {4, 3}) {
    QuantizeRecipe linear = recipe(bits);
    linear.vocabulary_bits.reset();
    linear.selection = {{}, {"model.layers.0.self_attn.q_proj"}};
    const fs::path folder = tmp / ("packed" + std::to_string(bits));
    quantize(linear, folder.filename().string());
    const torch::Tensor ours = test::log_p(io::Checkpoint::open(folder), ids);
    auto config = nlohmann::json::parse(test::read_file(folder / "config.json"));
    config.erase("compression_config");
    test::write_file(folder / "config.json", config.dump());
    EXPECT_TRUE(torch::equal(test::log_p(io::Checkpoint::open(folder), ids), ours));
    for (auto& [name, group] : config["quantization_config"]["config_groups"].items()) {
      group["targets"] = {"Linear"};
    }
    test::write_file(folder / "config.json", config.dump());
    EXPECT_TRUE(torch::equal(test::log_p(io::Checkpoint::open(folder), ids), ours));
    for (auto& [name, group] : config["quantization_config"]["config_groups"].items()) {
      group["targets"] = {"re:.*mlp.*"};
    }
    test::write_file(folder / "config.json", config.dump());
    EXPECT_NE(message_of([&] { io::Checkpoint::open(folder); }).find("expected a group of"),
              std::string::npos);
  }
}

TEST_F(Quantize, ARecipeThatIsRecordedGivesTheSameModel) {
  quantize(recipe(3), "first");
  const CompressRecipe recorded = recorded_recipe(io::Checkpoint::open(tmp / "first"), checkpoint);
  compress_model(checkpoint, recorded, {.out = tmp / "second"}, {});
  EXPECT_EQ(test::read_file(tmp / "first/model.safetensors"),
            test::read_file(tmp / "second/model.safetensors"));
}

TEST_F(Quantize, MistakesAreNamedBeforeAnythingIsWritten) {
  QuantizeRecipe wrong = recipe(4);
  wrong.group = 7;
  EXPECT_NE(message_of([&] { quantize(wrong, "out"); }).find("groups that divide"),
            std::string::npos);
  wrong = recipe(7);
  EXPECT_NE(message_of([&] { quantize(wrong, "out"); }).find("8, 6, 5, 4, 3 or 2 bits"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(tmp / "out"));
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
}

TEST_F(Quantize, ZerosStayAndInfinityIsRefused) {
  test::TinyModel tiny = test::make_tiny_model();
  const std::string name = "model.layers.0.mlp.up_proj";
  tiny.tensors[name + ".weight"].zero_();
  checkpoint = io::Checkpoint::open(test::write_model(tiny, tmp / "zeros"));
  quantize(recipe(2, "searched"), "out");
  const auto model = model::Model::load(io::Checkpoint::open(tmp / "out"));
  EXPECT_TRUE(model.forward(ids).isfinite().all().item<bool>());
  tiny.tensors[name + ".weight"][0][0] = std::numeric_limits<float>::infinity();
  checkpoint = io::Checkpoint::open(test::write_model(tiny, tmp / "infinite"));
  EXPECT_NE(message_of([&] { quantize(recipe(2), "infinity"); }).find("NaN or infinite"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(tmp / "infinity"));
}

TEST_F(Quantize, TheLargestNumberOfFloat16IsOneToo) {
  test::TinyModel tiny = test::make_tiny_model();
  for (auto& [name, tensor] : tiny.tensors) tensor = tensor.to(torch::kFloat16);
  tiny.tensors["model.layers.1.mlp.down_proj.weight"][0][0] = 65504;
  checkpoint = io::Checkpoint::open(test::write_model(tiny, tmp / "large"));
  quantize(recipe(4, "nearest"), "out");
  EXPECT_EQ(package::summarize(io::Checkpoint::open(tmp / "out")).keep(), 1.0);
}

class BrokenFile : public Quantize {
 protected:
  /// What opening says after `change` of the tensors in the file.
  std::string message_after(
      const std::function<void(std::map<std::string, torch::Tensor>&)>& change,
      bool symmetric = false) {
    QuantizeRecipe asked = recipe(4);
    asked.symmetric = symmetric;
    quantize(asked, "q");
    auto tensors = io::load_safetensors(tmp / "q/model.safetensors");
    std::map<std::string, torch::Tensor> all(tensors.begin(), tensors.end());
    change(all);
    fs::copy(tmp / "q", tmp / "broken");
    io::save_safetensors(tmp / "broken/model.safetensors", {all.begin(), all.end()});
    return message_of([&] { model::Model::load(io::Checkpoint::open(tmp / "broken")); });
  }

  const std::string layer = "model.layers.1.mlp.down_proj";
};

TEST_F(BrokenFile, AScaleOfZero) {
  EXPECT_NE(
      message_after([&](auto& t) { t[layer + ".weight_scale"][0][0] = 0; }).find("scale of zero"),
      std::string::npos);
}

TEST_F(BrokenFile, AScaleThatIsNoNumber) {
  EXPECT_NE(message_after([&](auto& t) {
              t[layer + ".weight_scale"][0][0] = NAN;
            }).find(layer + ".weight_scale: holds NaN"),
            std::string::npos);
}

TEST_F(BrokenFile, PackedDataOfTheWrongLength) {
  EXPECT_NE(message_after([&](auto& t) {
              auto& packed = t[layer + ".weight_packed"];
              packed = packed.slice(1, 1).contiguous();
            }).find(layer + ".weight_packed: expected shape"),
            std::string::npos);
}

TEST_F(BrokenFile, ZeroPointsOfASymmetricLayer) {
  const auto add_zeros = [&](auto& t) {
    t[layer + ".weight_zero_point"] = torch::zeros({3, 1}, torch::kInt32);
  };
  EXPECT_NE(message_after(add_zeros, /*symmetric=*/true)
                .find(layer + ".weight_zero_point: expected none of a symmetric layer"),
            std::string::npos);
}

TEST_F(BrokenFile, ScalesInDoublePrecisionAreRead) {
  const auto logits = [](const fs::path& folder) {
    return model::Model::load(io::Checkpoint::open(folder)).forward(torch::tensor({{5, 9, 7}}));
  };
  EXPECT_EQ(message_after([&](auto& t) {
              auto& scales = t[layer + ".weight_scale"];
              scales = scales.to(torch::kFloat64);
            }),
            "nothing was thrown");
  EXPECT_TRUE(torch::equal(logits(tmp / "q"), logits(tmp / "broken")));
}

TEST_F(BrokenFile, ZeroPointsThatAreMissing) {
  EXPECT_NE(message_after([&](auto& t) {
              t.erase(layer + ".weight_zero_point");
            }).find(layer + ".weight_zero_point: expected a tensor"),
            std::string::npos);
}

}  // namespace
}  // namespace schmidt::pipeline
