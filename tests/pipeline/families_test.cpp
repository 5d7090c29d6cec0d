// Tiny random models of the families that are more than a Llama with other switches: compressed,
// calibrated, healed, written, and what transformers makes of what is written.

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/compress/compress.h"
#include "schmidt/heal/heal.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/model.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/export_model.h"
#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/plan/uniform.h"
#include "schmidt/text/tokenizer.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Family {
  const char* name;  // of model_type
  json changes;      // of the tiny Llama's config
};

const json kGemma = {{"hidden_act", "gelu_pytorch_tanh"},
                     {"query_pre_attn_scalar", 20},
                     {"sliding_window", 5},
                     {"pad_token_id", nullptr}};

const json kExperts = {{"tie_word_embeddings", false},
                       {"pad_token_id", nullptr},
                       {"num_experts_per_tok", 2},
                       {"moe_intermediate_size", 20}};

json with(json config, const json& changes) {
  for (const auto& [key, value] : changes.items()) config[key] = value;
  return config;
}

const Family kFamilies[] = {
    {"granite",
     {{"embedding_multiplier", 6.0},
      {"attention_multiplier", 0.3},
      {"residual_multiplier", 0.5},
      {"logits_scaling", 0.25},
      {"attention_bias", true}}},
    {"olmo2", {{"tie_word_embeddings", false}, {"pad_token_id", nullptr}}},
    {"phi3",
     {{"tie_word_embeddings", false},
      {"pad_token_id", nullptr},
      {"partial_rotary_factor", 0.67},
      {"original_max_position_embeddings", 128},
      {"rope_scaling",
       {{"type", "longrope"}, {"short_factor", {1.0, 2.0}}, {"long_factor", {2.0, 3.0}}}}}},
    {"mixtral", with(kExperts, {{"num_local_experts", 4}, {"sliding_window", nullptr}})},
    {"qwen2_moe", with(kExperts, {{"num_experts", 4}, {"shared_expert_intermediate_size", 28}})},
    {"qwen3_moe",
     with(kExperts, {{"num_experts", 4}, {"norm_topk_prob", true}, {"decoder_sparse_step", 2}})},
    {"gemma2", with(kGemma, {{"attn_logit_softcapping", 2.0}, {"final_logit_softcapping", 4.0}})},
    {"gemma3_text", with(kGemma, {{"sliding_window_pattern", 2}, {"rope_local_base_freq", 100.0}})},
};

test::TinyModel tiny(const Family& family) {
  return test::make_tiny_model_of(family.name, family.changes);
}

class FamiliesTest : public testing::TestWithParam<Family> {
 protected:
  FamiliesTest() {
    at::set_num_threads(1);
    at::manual_seed(3);
    test::write_model(tiny(GetParam()), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    checkpoint = io::Checkpoint::open(tmp / "m");
    windows = torch::randint(264, {24, 24}, torch::kInt64);
  }

  static torch::Tensor logits(const io::Checkpoint& of) {
    return model::Model::load(of).forward(torch::tensor({{5, 9, 200, 7, 31, 8, 77, 3}}))[0];
  }

  // What transformers computes from a folder.
  torch::Tensor theirs(const fs::path& folder) const {
    const std::string out = (tmp / "logits.safetensors").string();
    if (!test::run_python(tmp, fmt::format("huggingface_logits.py {} 5,9,200,7,31,8,77,3 {}",
                                           folder.string(), out))) {
      return {};
    }
    return io::load_safetensors(out).at("logits");
  }

  static void expect_close(const torch::Tensor& a, const torch::Tensor& b) {
    EXPECT_LT((a - b).abs().max().item<double>(), 1e-5 * (1 + b.abs().max().item<double>()));
  }

  void expect_same_in_transformers(const fs::path& folder) const {
    const torch::Tensor found = theirs(folder);
    ASSERT_TRUE(found.defined());
    expect_close(logits(io::Checkpoint::open(folder)), found);
  }

  // Some layers as networks, one of a group alone, a group as one; the embedding in 8 bits; the
  // rest dense.
  fs::path compressed() const {
    const auto layers = plan::dense_layers(checkpoint);
    // q and up of block 0, o and down of block 1; of experts those of one, or the one that all
    // tokens take.
    const auto taken = [](const plan::Layer& layer, std::set<std::string> labels) {
      const bool first = labels.contains(fmt::format("{} {}", layer.block, layer.label()));
      return first && (!layer.expert || *layer.expert == 1 || *layer.expert == 4);
    };
    std::vector<plan::Layer> some, whole;
    std::ranges::copy_if(layers, std::back_inserter(some), [&](const plan::Layer& layer) {
      return taken(layer, {"0 L1", "0 L6", "1 L4", "1 L7"});
    });
    std::ranges::copy_if(plan::share_inputs(layers), std::back_inserter(whole), [&](const auto& l) {
      return taken(l, {"1 L1+L2+L3"}) || (l.expert && taken(l, {"1 L5+L6"}));
    });
    auto plan = plan::plan_bond(some, {}, 6);
    std::ranges::move(plan::plan_bond(whole, {.low_rank = true}, 8), std::back_inserter(plan));
    const auto config = model::parse_config(checkpoint.config(), checkpoint.path());
    plan.push_back({.layer = plan::dense_vocabulary(config).front(), .method = "nearest"});
    plan.back().integers = {8, 12, true};
    if (!fs::exists(tmp / "c")) compress::compress(checkpoint, plan, tmp / "c", {});
    return tmp / "c";
  }

  // On a few conversations, by KL divergence alone.
  heal::HealOptions healing() const {
    std::ofstream file(tmp / "text.jsonl");
    for (int i = 0; i < 20; ++i) {
      const json line = {{"instruction", "Say number " + std::to_string(i)},
                         {"output", "It is the number " + std::to_string(i * i) + ", of course."}};
      file << line.dump() << "\n";
    }
    file.close();
    heal::HealOptions o;
    o.data = {{tmp / "text.jsonl", 1.0}};
    o.stream.context = 96;
    o.stream.held_out = 2;
    o.model_level.batch = 4;
    o.model_level.weights = {0.0, 1.0};
    o.model_level.schedule.peak = 5e-3;
    return o;
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint = io::Checkpoint::open(
      test::write_model(test::make_tiny_model(1), tmp / "llama"));  // until the real one is there
  torch::Tensor windows;
};

TEST_P(FamiliesTest, ACompressedCheckpointHasTheSameLogitsInTransformers) {
  const fs::path folder = compressed();
  EXPECT_GT((logits(io::Checkpoint::open(folder)) - logits(checkpoint)).abs().max().item<double>(),
            1e-3);
  expect_same_in_transformers(folder);
}

TEST_P(FamiliesTest, ADenseExportHasTheSameLogitsInTransformersWithoutOurCode) {
  const io::Checkpoint from = io::Checkpoint::open(compressed());
  export_model(from, {.target = ExportTarget::kDense}, {.out = tmp / "dense"}, {});
  EXPECT_FALSE(fs::exists(tmp / "dense/modeling_schmidt.py"));
  expect_close(logits(io::Checkpoint::open(tmp / "dense")), logits(from));
  expect_same_in_transformers(tmp / "dense");
  const auto stored = io::load_safetensors(tmp / "dense/model.safetensors");
  const bool fused = GetParam().name == std::string("phi3");
  EXPECT_EQ(stored.contains("model.layers.0.self_attn.qkv_proj.weight"), fused);
  EXPECT_EQ(stored.contains("model.layers.0.mlp.gate_up_proj.weight"), fused);
}

TEST_P(FamiliesTest, StatisticsHoldTheMomentsAndPredictWhatNoiseCosts) {
  const std::vector<plan::Layer> layers = plan::dense_layers(checkpoint);
  windows = torch::randint(264, {64, 24}, torch::kInt64);
  const calibrate::StreamedModel streamed(checkpoint, {});
  const calibrate::Statistics statistics = calibrate::Statistics::collect(
      checkpoint, streamed, layers, windows, tmp / "s", {.batch = 4});
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  std::vector<plan::Layer> all = plan::dense_vocabulary(config);
  all.insert(all.end(), layers.begin(), layers.end());
  const test::TinyModel original = tiny(GetParam());
  // That a token takes another expert, for small noise in what its router reads, is foreseen by no
  // gradient.
  const double lowest = config.experts ? 0.1 : 0.25;
  double sum = 0, predicted_sum = 0;
  for (const plan::Layer& layer : all) {
    if (layer.block >= 0) {
      const torch::Tensor x = test::inputs_of(checkpoint, windows, layer.block, layer.group());
      const torch::Tensor expected = torch::matmul(x.t(), x) / x.size(0);
      const torch::Tensor found = statistics.inputs(layer).to(torch::kFloat64);
      EXPECT_LT((found - expected).norm().item<double>(), 1e-5 * expected.norm().item<double>())
          << layer.name;
    }
    test::TinyModel changed = original;
    torch::Tensor& w = changed.tensors[layer.name + ".weight"];
    const torch::Tensor noise = 0.02 * w.std() * torch::randn_like(w);
    w = w + noise;
    const double measured = test::divergence(
        checkpoint, io::Checkpoint::open(test::write_model(changed, tmp / layer.name)), windows);
    const double predicted = statistics.diagonal(layer).loss(noise);
    EXPECT_GT(predicted, lowest * measured) << layer.name;
    EXPECT_LT(predicted, 4.0 * measured) << layer.name;
    sum += measured;
    predicted_sum += predicted;
  }
  EXPECT_NEAR(predicted_sum / sum, 1.0, config.experts ? 0.6 : 0.4);
}

TEST_P(FamiliesTest, CalibratedCompressionAtFullRankChangesNothing) {
  const std::vector<plan::Layer> layers = plan::share_inputs(plan::dense_layers(checkpoint));
  const calibrate::StreamedModel streamed(checkpoint, {});
  const calibrate::Statistics statistics = calibrate::Statistics::collect(
      checkpoint, streamed, layers, windows, tmp / "s", {.batch = 4});
  std::vector<plan::LayerPlan> plans;
  for (const plan::Layer& layer : layers) {
    plans.push_back({layer,
                     tn::low_rank_shape(layer.rows, layer.cols),
                     {std::min(layer.rows, layer.cols)},
                     "fisher",
                     true});
  }
  compress::CompressOptions options;
  options.calibration =
      compress::Calibration{.windows = windows, .statistics = &statistics, .batch = 4};
  compress::compress(checkpoint, plans, tmp / "full", options);
  EXPECT_LT(test::divergence(checkpoint, io::Checkpoint::open(tmp / "full"), windows), 1e-6);
}

TEST_P(FamiliesTest, PrunedMlpsHaveTheSameLogitsInTransformersAndAsADenseModel) {
  if (model::parse_config(checkpoint.config(), checkpoint.path()).experts) {
    GTEST_SKIP() << "neurons of experts are not pruned";
  }
  const std::vector<plan::Layer> layers = plan::dense_layers(checkpoint);
  const calibrate::StreamedModel streamed(checkpoint, {});
  const calibrate::Statistics statistics = calibrate::Statistics::collect(
      checkpoint, streamed, layers, windows, tmp / "s", {.batch = 4});
  std::vector<plan::LayerPlan> plans;
  for (const plan::Layer& layer : layers) {
    if (layer.label() == "L7") plans.push_back(plan::pruned(layer, layer.block == 0 ? 20 : 30));
  }
  compress::CompressOptions options;
  options.calibration =
      compress::Calibration{.windows = windows, .statistics = &statistics, .batch = 4};
  compress::compress(checkpoint, plans, tmp / "pruned", options);
  const io::Checkpoint pruned = io::Checkpoint::open(tmp / "pruned");
  EXPECT_EQ(model::parse_config(pruned.config(), "").mlp_sizes, (std::vector<int64_t>{20, 30}));
  EXPECT_EQ(pruned.load("model.layers.0.mlp.down_proj.weight").size(1), 20);
  const double lost = test::divergence(checkpoint, pruned, windows);
  EXPECT_GT(lost, 1e-4);
  expect_same_in_transformers(tmp / "pruned");

  export_model(pruned, {.target = ExportTarget::kDense}, {.out = tmp / "dense"}, {});
  EXPECT_FALSE(fs::exists(tmp / "dense/modeling_schmidt.py"));
  EXPECT_EQ(io::Checkpoint::open(tmp / "dense").config()["intermediate_size"], 30);
  expect_close(logits(io::Checkpoint::open(tmp / "dense")), logits(pruned));
  expect_same_in_transformers(tmp / "dense");

  if (std::string_view(GetParam().name).starts_with("gemma")) return;  // whose scores GGUF has not
  export_model(pruned, {.target = ExportTarget::kGguf}, {.out = tmp / "pruned.gguf"}, {});
  expect_close(logits(io::Checkpoint::open(tmp / "pruned.gguf")), logits(pruned));
}

// Codes of a layer that has fewer rows than the original's begin where they are.
TEST_P(FamiliesTest, HealingTrainsTheCodesOfAPrunedModel) {
  if (GetParam().name != std::string("granite")) GTEST_SKIP() << "one family says it";
  const std::vector<plan::Layer> layers = plan::dense_layers(checkpoint);
  const calibrate::StreamedModel streamed(checkpoint, {});
  const calibrate::Statistics statistics = calibrate::Statistics::collect(
      checkpoint, streamed, layers, windows, tmp / "s", {.batch = 4});
  const auto down = std::ranges::find(layers, "L7", &plan::Layer::label);
  compress::CompressOptions options;
  options.calibration =
      compress::Calibration{.windows = windows, .statistics = &statistics, .batch = 4};
  compress::compress(checkpoint, {plan::pruned(*down, 24)}, tmp / "pruned", options);
  const io::Checkpoint pruned = io::Checkpoint::open(tmp / "pruned");
  QuantizeRecipe integers{.bits = 3, .group = 12, .method = "nearest"};
  compress_model(pruned, compress_recipe(integers, pruned), {.out = tmp / "student"}, {});
  heal::HealOptions o = healing();
  o.tokens = 20 * 4 * 96;
  o.trained.codes = true;
  const heal::HealResult result =
      heal::heal(io::Checkpoint::open(tmp / "student"), checkpoint, tmp / "healed", o, {});
  EXPECT_LT(result.after.kl, 0.9 * result.before.kl);
  EXPECT_EQ(model::parse_config(io::Checkpoint::open(tmp / "healed").config(), "").mlp_sizes,
            (std::vector<int64_t>{24, 36}));
}

TEST_P(FamiliesTest, HealingBringsTheStudentNearerAndWritesWhatTransformersOpens) {
  auto plan = plan::plan_bond(plan::dense_layers(checkpoint), {.low_rank = true}, 8);
  compress::compress(checkpoint, plan, tmp / "student", {});
  heal::HealOptions o = healing();
  o.model_level.micro_batch = 2;
  o.tokens = 40 * 4 * 96;
  o.block_tokens = 10 * 4 * 96;
  o.trained.embedding = true;
  const heal::HealResult result =
      heal::heal(io::Checkpoint::open(tmp / "student"), checkpoint, tmp / "healed", o, {});
  EXPECT_LT(result.after.kl, 0.9 * result.before.kl);
  const torch::Tensor like_it =
      torch::tensor(text::Tokenizer::load(tmp / "m").encode(
                        "<|im_start|>user\nSay number 25<|im_end|>\n<|im_start|>assistant\n"
                        "It is the number 625, of course.<|im_end|>\n"))
          .unsqueeze(0);
  EXPECT_LT(test::divergence(checkpoint, io::Checkpoint::open(tmp / "healed"), like_it),
            test::divergence(checkpoint, io::Checkpoint::open(tmp / "student"), like_it));
  expect_same_in_transformers(tmp / "healed");
}

INSTANTIATE_TEST_SUITE_P(All, FamiliesTest, testing::ValuesIn(kFamilies),
                         [](const auto& which) { return std::string(which.param.name); });

}  // namespace
}  // namespace schmidt::pipeline
