#include "schmidt/convert/gguf_file.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/convert/gguf_metadata.h"
#include "schmidt/convert/integer_blocks.h"
#include "schmidt/io/gguf_model.h"
#include "schmidt/io/gguf_writer.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/tensor_data.h"
#include "schmidt/model/model.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/export_model.h"
#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/text/tokenizer.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"

namespace schmidt::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const torch::Tensor kIds = torch::tensor({{5, 9, 200, 7, 31, 77, 3, 150}});

/// Rows of whole blocks: 4 heads, 2 of keys and values, MLP of 3/2 of the hidden size.
test::TinyModel wide_model(int64_t hidden = 128) {
  test::TinyModel model = test::make_tiny_model(2, 3, 16);
  model.config["hidden_size"] = hidden;
  model.config["head_dim"] = hidden / 4;
  model.config["intermediate_size"] = hidden * 3 / 2;
  for (auto& [name, tensor] : model.tensors) {
    std::vector<int64_t> shape = tensor.sizes().vec();
    for (int64_t& size : shape) {
      if (size != 264) size = size * hidden / 384;
    }
    tensor = shape.size() == 1 ? 1 + 0.1 * torch::randn(shape) : 0.1 * torch::randn(shape);
  }
  return model;
}

class GgufFileTest : public testing::Test {
 protected:
  fs::path write(const test::TinyModel& model, const std::string& name = "m") {
    const fs::path folder = test::write_model(model, tmp / name);
    test::write_byte_tokenizer(folder);
    return folder;
  }

  io::Checkpoint exported(const fs::path& from, const char* type = nullptr) {
    const fs::path file = tmp / fmt::format("{}.gguf", count_++);
    write_gguf_model(io::Checkpoint::open(from),
                     {.type = type ? quant::find_format(type) : nullptr}, file);
    return io::Checkpoint::open(file);
  }

  static torch::Tensor logits(const io::Checkpoint& checkpoint) {
    return model::Model::load(checkpoint).forward(kIds);
  }
  static torch::Tensor logits(const fs::path& path) { return logits(io::Checkpoint::open(path)); }

  static double difference(const torch::Tensor& a, const torch::Tensor& b) {
    return (a - b).abs().max().item<double>();
  }

  void expect_refused(const test::TinyModel& model, const std::string& part,
                      const char* type = "F32") {
    try {
      exported(write(model, "refused"), type);
      ADD_FAILURE() << "expected a refusal: " << part;
    } catch (const c10::ValueError& e) {
      EXPECT_NE(std::string(e.what_without_backtrace()).find(part), std::string::npos)
          << e.what_without_backtrace();
    }
  }

  test::TemporaryFolder tmp;

 private:
  int count_ = 0;
};

struct Family {
  std::string name;
  json config;
};

std::vector<Family> families() {
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  const json yarn = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
  json sharp = yarn;
  sharp["attention_factor"] = 1.3;
  return {{"llama", {}},
          {"llama", {{"tie_word_embeddings", false}}},
          {"llama", {{"attention_bias", true}, {"mlp_bias", true}}},
          {"llama", {{"rope_scaling", llama3}, {"rope_theta", 500000.0}}},
          {"llama", {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}}}},
          {"qwen3", {{"rope_scaling", yarn}}},
          {"qwen2", {{"rope_scaling", sharp}}},
          {"qwen2", {{"tie_word_embeddings", false}}},
          {"mistral", {{"sliding_window", 4}}},
          {"mistral", {{"sliding_window", nullptr}}}};
}

test::TinyModel model_of(const Family& family) {
  test::TinyModel model = wide_model();
  model.config["model_type"] = family.name;
  model.config["architectures"] = {family.name == "qwen2"     ? "Qwen2ForCausalLM"
                                   : family.name == "qwen3"   ? "Qwen3ForCausalLM"
                                   : family.name == "mistral" ? "MistralForCausalLM"
                                                              : "LlamaForCausalLM"};
  for (const auto& [key, value] : family.config.items()) model.config[key] = value;
  const auto config = model::parse_config(model.config, "tiny");
  for (const model::LayerSpec& layer : model::block_layers(config)) {
    if (layer.bias) model.tensors[layer.name + ".bias"] = torch::randn({layer.out_features});
  }
  if (!config.tie_embeddings) model.tensors["lm_head.weight"] = 0.1 * torch::randn({264, 128});
  for (int64_t b = 0; config.qk_norm != model::QkNorm::kNone && b < config.num_layers; ++b) {
    for (const char* norm : {"self_attn.q_norm.weight", "self_attn.k_norm.weight"}) {
      model.tensors[model::block_prefix(b) + norm] = 1 + 0.1 * torch::randn({config.head_dim});
    }
  }
  return model;
}

TEST_F(GgufFileTest, AModelOfEveryFamilyIsTheSameReadAgain) {
  int number = 0;
  for (const Family& family : families()) {
    SCOPED_TRACE(family.name + " " + family.config.dump());
    const fs::path folder = write(model_of(family), fmt::format("f{}", number++));
    const io::Checkpoint again = exported(folder, "F32");
    EXPECT_EQ(again.config()["model_type"],
              family.name == "mistral" && family.config["sliding_window"].is_null() ? "llama"
                                                                                    : family.name);
    EXPECT_LT(difference(logits(folder), logits(again)), 1e-5);
    const text::Tokenizer before = text::Tokenizer::load(folder);
    const text::Tokenizer after = text::Tokenizer::load(again.path());
    EXPECT_EQ(after.encode("Hello <|im_end|>\n"), before.encode("Hello <|im_end|>\n"));
    EXPECT_EQ(after.chat_template(), before.chat_template());
  }
}

/// What tells these apart is more than Llama's tensors under other numbers.
std::vector<Family> other_families() {
  const json longrope = {
      {"rope_type", "longrope"}, {"short_factor", {1.0, 1.2}}, {"long_factor", {2.0, 4.0}}};
  return {
      {"granite",
       {{"embedding_multiplier", 3.0},
        {"attention_multiplier", 0.3},
        {"residual_multiplier", 0.7},
        {"logits_scaling", 2.0}}},
      {"granite", {{"attention_bias", true}, {"mlp_bias", true}}},
      {"olmo2", {{"tie_word_embeddings", false}}},
      {"phi3", {{"sliding_window", 5}}},
      {"phi3",
       {{"rope_scaling", longrope},
        {"partial_rotary_factor", 0.75},
        {"original_max_position_embeddings", 32},
        {"tie_word_embeddings", false}}},
      {"gemma2", {{"sliding_window", 5}, {"query_pre_attn_scalar", 6}, {"num_hidden_layers", 3}}},
      {"gemma3_text",
       {{"sliding_window", 5},
        {"sliding_window_pattern", 3},
        {"num_hidden_layers", 4},
        {"query_pre_attn_scalar", 6},
        {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}}},
      {"mixtral", {{"num_local_experts", 11}, {"num_experts_per_tok", 2}}},
      {"qwen2_moe",
       {{"num_experts", 4},
        {"num_experts_per_tok", 2},
        {"moe_intermediate_size", 12},
        {"shared_expert_intermediate_size", 20},
        {"tie_word_embeddings", false}}},
      {"qwen3_moe",
       {{"num_experts", 4},
        {"num_experts_per_tok", 2},
        {"moe_intermediate_size", 12},
        {"norm_topk_prob", true},
        {"tie_word_embeddings", false}}},
  };
}

TEST_F(GgufFileTest, ModelsOfOtherFamiliesAreTheSameReadAgain) {
  int number = 0;
  for (const Family& family : other_families()) {
    SCOPED_TRACE(family.name + " " + family.config.dump());
    const test::TinyModel model = test::make_tiny_model_of(family.name, family.config);
    const fs::path folder = write(model, fmt::format("o{}", number++));
    const io::Checkpoint again = exported(folder, "F32");
    EXPECT_EQ(again.config()["model_type"], family.name);
    EXPECT_LT(difference(logits(folder), logits(again)), 1e-4);
    for (const auto& [name, tensor] : model.tensors) {
      EXPECT_LT(difference(again.load(name), tensor), 1e-6) << name;
    }
    // From GGUF to a folder and back nothing is lost either.
    const fs::path back = tmp / fmt::format("back{}", number);
    pipeline::export_model(again, {.target = pipeline::ExportTarget::kTransformers}, {.out = back},
                           {});
    const io::GgufFile file = io::GgufFile::open(again.path());
    const io::GgufFile twice = io::GgufFile::open(exported(back).path());
    for (const auto& [name, tensor] : file.tensors()) {
      EXPECT_EQ(twice.tensors().at(name).bytes, tensor.bytes) << name;
    }
  }
}

TEST_F(GgufFileTest, WhatTheModelHasNoPlaceForIsRefused) {
  test::TinyModel model =
      test::make_tiny_model_of("mixtral", {{"num_local_experts", 3}, {"num_experts_per_tok", 2}});
  const torch::Tensor weight = torch::ones({36, 24});
  for (const char* name : {"model.layers.0.block_sparse_moe.experts.7.w1.weight",
                           "model.layers.00.self_attn.q_proj.weight"}) {
    test::TinyModel other = model;
    other.tensors[name] = weight;
    EXPECT_THROW(exported(write(other, "m"), "F32"), FormatError) << name;
  }
}

// As llama.cpp keeps them, whatever the matrices are in and wherever they come from.
TEST_F(GgufFileTest, RoutersStayInFloat32) {
  const test::TinyModel model =
      test::make_tiny_model_of("mixtral", {{"hidden_size", 64},
                                           {"head_dim", 16},
                                           {"intermediate_size", 64},
                                           {"num_local_experts", 3},
                                           {"num_experts_per_tok", 2},
                                           {"tie_word_embeddings", false}});
  test::TinyModel wide = model;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    wide.tensors[name] = torch::randn({264, 64});
  }
  const io::Checkpoint plain = exported(write(wide), "F32");
  for (const fs::path& from : {tmp / "m", plain.path()}) {
    const io::GgufFile file = io::GgufFile::open(exported(from, "Q4_0").path());
    EXPECT_EQ(file.tensors().at("blk.0.ffn_gate_inp.weight").format->name, "F32");
    EXPECT_EQ(file.tensors().at("blk.0.ffn_up_exps.weight").format->name, "Q4_0");
  }
}

// Experts of a block are one tensor of the file, and q, k, v of Phi: in one format.
TEST_F(GgufFileTest, IntegersStayThemWhereAllOfATensorDo) {
  int number = 0;
  const auto stored = [&](const char* family, const json& changes, const std::string& ignore,
                          const std::string& tensor) {
    json config = {{"hidden_size", 64},
                   {"intermediate_size", 64},
                   {"head_dim", 16},
                   {"tie_word_embeddings", false}};
    config.update(changes);
    const std::string name = fmt::format("i{}", number++);
    test::TinyModel model = test::make_tiny_model_of(family, config);
    for (const char* layer : {"model.embed_tokens.weight", "lm_head.weight"}) {
      model.tensors[layer] = 0.3 * torch::randn({264, 64});
    }
    const io::Checkpoint checkpoint = io::Checkpoint::open(write(model, name));
    pipeline::QuantizeRecipe recipe;
    recipe.bits = 4;
    recipe.group = 32;
    recipe.symmetric = true;
    recipe.method = "nearest";
    recipe.vocabulary_bits = std::nullopt;
    recipe.selection.ignore = {ignore};
    const fs::path out = tmp / (name + "-q");
    compress_model(checkpoint, pipeline::compress_recipe(recipe, checkpoint), {.out = out}, {});
    test::write_byte_tokenizer(out);
    const io::Checkpoint again = exported(out);
    EXPECT_LT(difference(logits(out), logits(again)), 1e-4) << name;
    return io::GgufFile::open(again.path()).tensors().at(tensor).format->name;
  };
  const json experts = {{"num_local_experts", 3}, {"num_experts_per_tok", 2}};
  EXPECT_EQ(stored("mixtral", experts, "none", "blk.0.ffn_up_exps.weight"), "Q4_0");
  EXPECT_EQ(stored("mixtral", experts, "model.layers.0.block_sparse_moe.experts.1.w3",
                   "blk.0.ffn_up_exps.weight"),
            "F32");
  EXPECT_EQ(stored("phi3", json::object(), "none", "blk.1.attn_qkv.weight"), "Q4_0");
  EXPECT_EQ(stored("phi3", json::object(), "*.k_proj", "blk.1.attn_qkv.weight"), "F32");
  EXPECT_EQ(stored("phi3", json::object(), "*.k_proj", "blk.1.ffn_up.weight"), "Q4_0");
}

TEST_F(GgufFileTest, EveryTypeHoldsTheEncodedMatrices) {
  for (const quant::Format& format : quant::formats()) {
    const test::TinyModel model = wide_model(format.values == 256 ? 512 : 128);
    const fs::path folder = write(model);
    const io::Checkpoint again = exported(folder, std::string(format.name).c_str());
    for (const auto& [name, tensor] : model.tensors) {
      const bool matrix = tensor.dim() > 1;
      EXPECT_EQ(again.tensors().at(name).stored_as, matrix ? format.name : "F32") << name;
      const quant::Format& expected = matrix ? format : *quant::find_format("F32");
      EXPECT_TRUE(torch::equal(
          again.load(name),
          io::decode_tensor(io::encode_tensor(tensor, expected, name), expected, tensor.sizes())))
          << name << " " << format.name;
    }
  }
}

TEST_F(GgufFileTest, AGgufWrittenAgainKeepsEveryByteOfItsTensors) {
  for (const char* type : {"F32", "F16", "Q4_0", "Q8_0"}) {
    const io::GgufFile before =
        io::GgufFile::open(exported(write(model_of(families()[3])), type).path());
    const io::GgufFile after = io::GgufFile::open(exported(before.path()).path());
    ASSERT_EQ(after.tensors().size(), before.tensors().size());
    for (const auto& [name, tensor] : before.tensors()) {
      EXPECT_EQ(after.tensors().at(name).format, tensor.format) << name;
      EXPECT_EQ(after.tensors().at(name).bytes, tensor.bytes) << name;
    }
    for (const auto& [key, value] : before.metadata()) {
      EXPECT_TRUE(after.metadata().at(key).data == value.data) << key;
      EXPECT_EQ(after.metadata().at(key).type, value.type) << key;
    }
    const io::GgufFile other = io::GgufFile::open(exported(before.path(), "Q5_1").path());
    EXPECT_EQ(other.tensors().at("blk.0.attn_q.weight").format->name, "Q5_1");
    EXPECT_EQ(other.tensors().at("blk.0.attn_norm.weight").format->name, "F32");
    EXPECT_EQ(other.get_int("general.file_type"), 9);
  }
}

// Old checkpoints of Llama hold the frequencies of every layer.
TEST_F(GgufFileTest, WhatIsNoWeightIsLeftOutOrRefused) {
  test::TinyModel model = wide_model();
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch::ones({16});
  const fs::path folder = write(model);
  EXPECT_LT(difference(logits(folder), logits(exported(folder, "F32"))), 1e-5);
  model.tensors["model.layers.0.self_attn.gate.weight"] = torch::ones({16, 32});
  EXPECT_THROW(exported(write(model), "F32"), FormatError);
}

TEST_F(GgufFileTest, ACompressedModelIsMultipliedOut) {
  const fs::path folder = write(test::make_compressed_model().compressed);
  EXPECT_LT(difference(logits(folder), logits(exported(folder, "F32"))), 1e-5);
  EXPECT_LT(difference(logits(folder), logits(exported(folder))), 1e-5);
}

// Blocks of 32 hold them as they are, up to minima of float16.
TEST_F(GgufFileTest, IntegersOfFewBitsStayThem) {
  const fs::path folder = write(wide_model());
  const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  struct Case {
    int bits;
    bool symmetric;
    const char* stored_as;
    double tolerance;  // of the logits, which are about 1
  };
  for (const auto& [bits, symmetric, stored_as, tolerance] :
       std::vector<Case>{{2, true, "Q4_0", 1e-6},
                         {3, true, "Q4_0", 1e-6},
                         {4, true, "Q4_0", 1e-6},
                         {5, true, "Q5_0", 1e-6},
                         {6, true, "Q8_0", 1e-6},
                         {8, true, "Q8_0", 1e-6},
                         {2, false, "Q4_1", 2e-3},
                         {3, false, "Q4_1", 2e-3},
                         {4, false, "Q4_1", 2e-3},
                         {5, false, "Q5_1", 2e-3},
                         {6, false, "Q8_0", 1e-6},
                         {8, false, "Q8_0", 3e-2}}) {
    SCOPED_TRACE(fmt::format("{} {}", bits, symmetric));
    pipeline::QuantizeRecipe recipe;
    recipe.bits = bits;
    recipe.group = 64;
    recipe.symmetric = symmetric;
    recipe.method = "nearest";
    recipe.vocabulary_bits = std::nullopt;
    const fs::path out = tmp / fmt::format("q{}{}", bits, symmetric);
    compress_model(checkpoint, pipeline::compress_recipe(recipe, checkpoint), {.out = out}, {});
    const io::Checkpoint again = exported(out);
    EXPECT_EQ(again.tensors().at("model.layers.1.mlp.up_proj.weight").stored_as, stored_as);
    EXPECT_EQ(again.tensors().at("model.layers.1.self_attn.q_proj.weight").stored_as, stored_as);
    EXPECT_EQ(again.tensors().at("model.embed_tokens.weight").stored_as, "F32");
    EXPECT_LT(difference(logits(out), logits(again)), 10 * tolerance);
    EXPECT_GT(difference(logits(out), logits(folder)), 1e-4);
  }
}

TEST_F(GgufFileTest, WhatLlamaCppLacksIsRefusedByName) {
  test::TinyModel model = model_of({"qwen3", {}});
  model.config["use_sliding_window"] = true;
  model.config["sliding_window"] = 4;
  model.config["max_window_layers"] = 1;
  expect_refused(model, "a sliding window in model.layers.1.self_attn");
  expect_refused(model_of({"qwen3", {{"attention_bias", true}}}),
                 "a bias in model.layers.0.self_attn.o_proj and 1 more");
  model = wide_model();
  model.config["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", 2.0}};
  expect_refused(model, "dynamic");
  model.config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 2.0}, {"truncate", false}};
  expect_refused(model, "truncate");
  expect_refused(test::make_tiny_model_of("gemma2", {{"query_pre_attn_scalar", 7}}),
                 "another root than that of a head's size in model.layers.0.self_attn and 1 more");
  expect_refused(test::make_tiny_model_of("gemma2", {{"final_logit_softcapping", nullptr},
                                                     {"query_pre_attn_scalar", 6}}),
                 "logits without a cap in lm_head");
  expect_refused(test::make_tiny_model_of("phi3", {{"head_dim", 8}}),
                 "heads of 32 values in all, not 24");
  expect_refused(test::make_tiny_model_of("olmo2", json::object()),
                 "no output layer beside the embedding");
  expect_refused(test::make_tiny_model_of("qwen3_moe", {{"num_experts", 4},
                                                        {"num_experts_per_tok", 2},
                                                        {"moe_intermediate_size", 12},
                                                        {"mlp_only_layers", {1}}}),
                 "one MLP in model.layers.1.mlp");
}

TEST_F(GgufFileTest, ATypeThatARowDoesNotAllowIsRefusedWithTheNearest) {
  expect_refused(test::make_tiny_model(), "the nearest type that fits is f16", "Q8_0");
  expect_refused(test::make_tiny_model(), "multiple of 32 values for q4_0, got 24 in model.",
                 "Q4_0");
  // SmolLM2's rows of 576 are no multiple of 256: of as many bits.
  expect_refused(wide_model(), "the nearest type that fits is q4_0", "Q4_K");
  expect_refused(wide_model(), "the nearest type that fits is q5_1", "Q6_K");
  const fs::path narrow = exported(write(test::make_tiny_model()), "F32").path();
  EXPECT_THROW(exported(narrow, "Q4_0"), c10::ValueError);
}

TEST_F(GgufFileTest, IntegersWithScalesThatAreNoNumbersAreRefused) {
  const fs::path folder = write(wide_model());
  const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  pipeline::QuantizeRecipe recipe;
  recipe.bits = 4;
  recipe.group = 64;
  recipe.method = "nearest";
  recipe.vocabulary_bits = std::nullopt;
  compress_model(checkpoint, pipeline::compress_recipe(recipe, checkpoint), {.out = tmp / "q"}, {});
  const auto with_scale = [&](double scale) {
    test::TinyModel model{json::parse(test::read_file(tmp / "q/config.json")),
                          io::load_safetensors(tmp / "q/model.safetensors")};
    torch::Tensor& scales = model.tensors.at("model.layers.1.mlp.up_proj.weight_scale");
    scales = scales.to(torch::kFloat32).fill_(scale);
    return write(model, "s");
  };
  EXPECT_NO_THROW(exported(with_scale(2)));
  EXPECT_THROW(exported(with_scale(NAN)), FormatError);
  EXPECT_THROW(exported(with_scale(1e6)), c10::ValueError);
  EXPECT_THROW(exported(with_scale(NAN), "F32"), FormatError);
}

TEST_F(GgufFileTest, NanIsRefusedByName) {
  test::TinyModel model = wide_model();
  model.tensors["model.layers.1.mlp.up_proj.weight"][3][4] = NAN;
  const fs::path folder = write(model);
  EXPECT_THROW(exported(folder, "Q8_0"), FormatError);
  for (const auto& entry : fs::directory_iterator(tmp.path())) {
    EXPECT_NE(entry.path().extension(), ".gguf");
  }
}

}  // namespace
}  // namespace schmidt::convert
