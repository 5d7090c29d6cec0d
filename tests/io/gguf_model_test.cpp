#include "schmidt/io/gguf_model.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/tensor_data.h"

#include "tests/io/expect_error.h"
#include "tests/io/file_bytes.h"

namespace schmidt::io {
namespace {

using test::gguf_entry;
using test::gguf_tensor;
using test::gguf_text;
using test::le;
using test::u32;

constexpr uint32_t kU32 = 4, kF32Value = 6, kText = 8, kArray = 9, kF32 = 0, kF16 = 1, kQ4_0 = 2;

// A model of one tensor, whose metadata the tests change.
struct Source {
  std::string architecture;
  std::map<std::string, std::string> entries;
  std::string data;  // of the tensors; empty: zeros
  std::vector<std::string> tensors{gguf_tensor("token_embd.weight", {8, 4}, kF32, 0)};

  explicit Source(const char* name = "llama") : architecture(name) {
    entries["general.architecture"] = gguf_entry("general.architecture", kText, gguf_text(name));
    set("embedding_length", 8);
    set("feed_forward_length", 16);
    set("block_count", 1);
    set("context_length", 128);
    set("attention.head_count", 2);
    set("attention.head_count_kv", 1);
    set("attention.layer_norm_rms_epsilon", 1e-5F);
  }
  void set(const std::string& key, int value) {
    entries[key] = gguf_entry(architecture + "." + key, kU32, u32(static_cast<uint32_t>(value)));
  }
  void set(const std::string& key, float value) {
    entries[key] = gguf_entry(architecture + "." + key, kF32Value, le(value));
  }
  void set(const std::string& key, const char* value) {
    entries[key] = gguf_entry(architecture + "." + key, kText, gguf_text(value));
  }
  GgufModel open() const {
    std::vector<std::string> list;
    for (const auto& [key, entry] : entries) list.push_back(entry);
    bytes = test::gguf(list, tensors, data.empty() ? 512 : 0) + data;
    return as_hugging_face(GgufFile::parse(bytes, "x.gguf"));
  }
  void expect_refused(const std::string& reason) const {
    test::expect_error<FormatError>([this] { open(); }, reason);
  }

 private:
  mutable std::string bytes;
};

TEST(GgufModel, ConfigIsThatOfHuggingFace) {
  const nlohmann::json config = Source().open().config;
  EXPECT_EQ(config.at("model_type"), "llama");
  EXPECT_EQ(config.at("vocab_size"), 4);
  EXPECT_EQ(config.at("head_dim"), 4);
  EXPECT_EQ(config.at("rope_theta"), 10000.0);
  EXPECT_EQ(config.at("tie_word_embeddings"), true);
  EXPECT_EQ(config.at("eos_token_id"), nullptr);
  EXPECT_EQ(config.at("rms_norm_eps").dump(), "1e-05");  // not 9.999999747378752e-06
  EXPECT_EQ(config.at("torch_dtype"), "float32");
}

TEST(GgufModel, AnUntiedOutputAndHalfPrecision) {
  Source source;
  source.tensors = {gguf_tensor("token_embd.weight", {8, 4}, kF16, 0),
                    gguf_tensor("output.weight", {8, 4}, kF16, 64)};
  const GgufModel model = source.open();
  EXPECT_EQ(model.config.at("tie_word_embeddings"), false);
  EXPECT_EQ(model.config.at("torch_dtype"), "float16");
  EXPECT_EQ(load_tensor(model.tensors.at("lm_head.weight")).scalar_type(), torch::kFloat16);
}

TEST(GgufModel, ASlidingWindowMakesAMistral) {
  Source source;
  source.set("attention.sliding_window", 64);
  const GgufModel model = source.open();
  EXPECT_EQ(model.config.at("model_type"), "mistral");
  EXPECT_EQ(model.config.at("sliding_window"), 64);
}

TEST(GgufModel, RopeScalingOfTheMetadata) {
  Source source;
  source.set("rope.scaling.type", "linear");
  source.set("rope.scaling.factor", 2.5F);
  const nlohmann::json scaling = source.open().config.at("rope_scaling");
  EXPECT_EQ(scaling, (nlohmann::json{{"rope_type", "linear"}, {"factor", 2.5}}));
}

TEST(GgufModel, RopeScalingWithoutATypeIsLinearAndOfFactorZeroIsNone) {
  for (const char* key : {"rope.scaling.factor", "rope.scale_linear"}) {
    Source source;
    source.set(key, 2.5F);
    EXPECT_EQ(source.open().config.at("rope_scaling"),
              (nlohmann::json{{"rope_type", "linear"}, {"factor", 2.5}}));
    source.set(key, 0.0F);
    EXPECT_TRUE(source.open().config.at("rope_scaling").is_null());
    source.set(key, -1.0F);
    source.expect_refused("expected a positive number, found -1");
  }
}

TEST(GgufModel, YarnOfTheMetadata) {
  Source source;
  source.set("rope.scaling.type", "yarn");
  source.set("rope.scaling.factor", 4.0F);
  source.set("rope.scaling.original_context_length", 32);
  nlohmann::json expected = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
  EXPECT_EQ(source.open().config.at("rope_scaling"), expected);

  source.set("rope.scaling.yarn_beta_fast", 16.0F);
  source.set("rope.scaling.yarn_beta_slow", 2.0F);
  source.set("rope.scaling.yarn_log_multiplier", 0.5F);
  expected["beta_fast"] = 16.0;
  expected["beta_slow"] = 2.0;
  expected["mscale"] = 1;
  expected["mscale_all_dim"] = 0.5;
  EXPECT_EQ(source.open().config.at("rope_scaling"), expected);

  // llama.cpp multiplies by it what it derives from the factor.
  source.set("rope.scaling.attn_factor", 2.0F);
  const double logarithm = 0.1 * std::log(4.0);
  EXPECT_NEAR(source.open().config.at("rope_scaling").at("attention_factor").get<double>(),
              2 * (1 + logarithm) / (1 + 0.5 * logarithm), 1e-12);

  source.set("rope.scaling.yarn_ext_factor", 0.5F);
  source.expect_refused("llama.rope.scaling.yarn_ext_factor: expected 1, found 0.5");
  source.set("rope.scaling.type", "longrope");
  source.expect_refused("llama.rope.scaling.type: expected none, linear or yarn, found longrope");
}

TEST(GgufModel, TheEndsOfTurnsAndMessagesEndGenerationToo) {
  Source source;
  source.entries["eos"] = gguf_entry("tokenizer.ggml.eos_token_id", kU32, u32(2));
  EXPECT_EQ(source.open().generation_config, (nlohmann::json{{"eos_token_id", 2}}));
  source.entries["eot"] = gguf_entry("tokenizer.ggml.eot_token_id", kU32, u32(3));
  EXPECT_EQ(source.open().generation_config, (nlohmann::json{{"eos_token_id", {2, 3}}}));
  source.entries["eom"] = gguf_entry("tokenizer.ggml.eom_token_id", kU32, u32(1));
  EXPECT_EQ(source.open().generation_config, (nlohmann::json{{"eos_token_id", {2, 3, 1}}}));
  source.entries["eot"] = gguf_entry("tokenizer.ggml.eot_token_id", kU32, u32(2));
  EXPECT_EQ(source.open().generation_config, (nlohmann::json{{"eos_token_id", {2, 1}}}));
}

// Four heads of size 4 in Q4_0, whose rows the file has in llama.cpp's order.
TEST(GgufModel, EncodedRowsComeInHuggingFacesOrder) {
  Source source;
  source.set("embedding_length", 32);
  source.set("attention.head_count", 4);
  source.set("attention.head_count_kv", 2);
  source.set("attention.key_length", 4);
  source.tensors = {gguf_tensor("token_embd.weight", {32, 4}, kF32, 0),
                    gguf_tensor("blk.0.attn_q.weight", {32, 16}, kQ4_0, 512),
                    gguf_tensor("blk.0.attn_v.weight", {32, 8}, kQ4_0, 832),
                    gguf_tensor("blk.0.attn_k.bias", {32}, kQ4_0, 992)};
  for (size_t i = 0; i < 1024; ++i) source.data += static_cast<char>(i * i % 61);
  const GgufModel model = source.open();
  for (const auto& [name, weight] : model.tensors) {
    const EncodedTensor encoded = load_encoded(weight, nullptr);
    const bool held = name.find("k_proj") == name.npos;  // blocks that would be torn are decoded
    EXPECT_EQ(encoded.format->name, held ? weight.format->name : "F32") << name;
    EXPECT_EQ(encoded.bytes.data() == weight.bytes.data(), weight.interleaved_heads == 0);
    EXPECT_TRUE(
        decode_tensor(encoded.bytes, *encoded.format, encoded.shape).equal(load_tensor(weight)))
        << name;
  }
}

TEST(GgufModel, RefusesMetadataThatIsMissingOrWrong) {
  for (const char* key :
       {"embedding_length", "feed_forward_length", "block_count", "context_length",
        "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    Source source;
    source.entries.erase(key);
    source.expect_refused(std::string("metadata llama.") + key + ": expected a value, found none");
    source.set(key, "text");
    source.expect_refused("found a string");
    if (std::string_view(key).ends_with("epsilon")) {
      source.set(key, -1e-5F);
      source.expect_refused("expected a positive number");
    } else {
      source.set(key, 0);
      source.expect_refused("expected 1 or more, found 0");
    }
  }
}

TEST(GgufModel, RefusesAnotherArchitecture) {
  Source source;
  source.entries["general.architecture"] =
      gguf_entry("general.architecture", kText, gguf_text("mamba"));
  source.expect_refused(
      "expected one of llama, qwen2, qwen3, qwen2moe, qwen3moe, granite, olmo2, phi3, gemma2, "
      "gemma3, found mamba");
  source.entries.erase("general.architecture");
  source.expect_refused("metadata general.architecture: expected a value, found none");
}

TEST(GgufModel, RefusesTensorsThatDoNotBelong) {
  for (const char* name :
       {"blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "blk.0attn_q.weight", "blk.0.attn_q",
        "blk.0.weight", "blk.0..weight", "blk.0.attn_q.scale", "blk.-1.attn_q.weight",
        "blk.99999999999.attn_q.weight", "blk."}) {
    SCOPED_TRACE(name);
    Source source;
    source.tensors.push_back(gguf_tensor(name, {8, 8}, kF32, 128));
    source.expect_refused(std::string("tensor ") + name + ": expected a tensor of a llama");
  }
  Source odd;
  odd.tensors.push_back(gguf_tensor("blk.0.attn_q.weight", {8, 6}, kF32, 128));
  odd.expect_refused("expected rows of 2 heads of even size, found 6 rows");
  Source twice;
  twice.tensors.push_back(gguf_tensor("blk.0.attn_norm.weight", {8}, kF32, 128));
  twice.tensors.push_back(gguf_tensor("blk.00.attn_norm.weight", {8}, kF32, 160));
  twice.expect_refused("found it twice");
  Source none;
  none.tensors.clear();
  none.expect_refused("tensor token_embd.weight: expected a matrix, found none");
}

TEST(GgufModel, RefusesTensorsThatAreNotSeveralInOne) {
  const auto experts = [](std::vector<uint64_t> sizes) {
    Source source;
    source.set("expert_count", 2);
    source.set("expert_used_count", 1);
    source.data = std::string(2048, '\0');
    source.tensors.push_back(gguf_tensor("blk.0.ffn_gate_exps.weight", sizes, kF32, 128));
    return source;
  };
  const GgufModel model = experts({8, 16, 2}).open();
  EXPECT_EQ(model.config["model_type"], "mixtral");
  EXPECT_EQ(model.tensors.at("model.layers.0.block_sparse_moe.experts.1.w1.weight").shape,
            (std::vector<int64_t>{16, 8}));
  experts({8, 32}).expect_refused("expected the matrices of 2 experts");
  experts({8, 16, 3}).expect_refused("expected the matrices of 2 experts");

  Source fused("phi3");
  fused.data = std::string(2048, '\0');
  fused.tensors.push_back(gguf_tensor("blk.0.attn_qkv.weight", {8, 16}, kF32, 128));
  EXPECT_EQ(fused.open().tensors.at("model.layers.0.self_attn.q_proj.weight").shape,
            (std::vector<int64_t>{8, 8}));
  fused.tensors.back() = gguf_tensor("blk.0.attn_qkv.weight", {8, 14}, kF32, 128);
  fused.expect_refused("expected rows of 4 parts of one size, found 14");
}

TEST(GgufModel, RefusesExpertsWhereThereAreNone) {
  Source many;
  many.set("expert_count", 1'000'000);
  many.expect_refused("llama.expert_count: expected at most 1024, found 1000000");
  many.set("expert_count", 4);
  many.expect_refused("llama.expert_used_count: expected a value, found none");
  Source dense("qwen3");
  dense.set("expert_count", 4);
  dense.expect_refused("qwen3.expert_count: expected none");
  Source("qwen3moe").expect_refused("qwen3moe.expert_count: expected the number of experts");
}

TEST(GgufModel, RefusesWhatLlamaCppComputesAndThisDoesNot) {
  Source olmo3("olmo2");
  olmo3.set("attention.sliding_window", 16);
  olmo3.expect_refused("olmo2.attention.sliding_window: expected none, as in OLMo 2, found 16");
  Source bias("qwen3moe");
  bias.set("expert_count", 2);
  bias.set("expert_used_count", 1);
  bias.tensors.push_back(gguf_tensor("blk.0.attn_q.bias", {8}, kF32, 128));
  bias.expect_refused("blk.0.attn_q.bias: expected no bias here in a qwen3_moe model");
  Source scaled("phi3");
  scaled.set("rope.scaling.factor", 2.0F);
  scaled.expect_refused("phi3.rope.scaling.type: expected none, or factors");
  Source beyond;
  beyond.tensors.push_back(gguf_tensor("blk.1.attn_norm.weight", {8}, kF32, 128));
  beyond.expect_refused("blk.1.attn_norm.weight: expected a block below 1");
}

TEST(GgufModel, TakesWhatLlamaCppDerives) {
  Source source("qwen3moe");
  source.set("expert_count", 4);
  source.set("expert_used_count", 2);
  EXPECT_EQ(source.open().config["moe_intermediate_size"], 8);  // feed_forward_length over 2
  Source gemma("gemma3");
  gemma.set("attention.sliding_window", 0);
  EXPECT_EQ(gemma.open().config["sliding_window_pattern"], 1);  // no block has a window
  Source each("granite");
  each.set("logit_scale", 2.0F);
  each.set("block_count", 2);
  each.entries["attention.head_count_kv"] = gguf_entry("granite.attention.head_count_kv", kArray,
                                                       u32(kU32) + test::u64(2) + u32(1) + u32(1));
  EXPECT_EQ(each.open().config["num_key_value_heads"], 1);
}

// Gemma's norms multiply by one more than their weights, and llama.cpp's by what the file has.
TEST(GgufModel, TakesTheOffsetOffNorms) {
  Source source("gemma2");
  source.tensors.push_back(gguf_tensor("blk.0.post_ffw_norm.weight", {8}, kF32, 128));
  source.data = std::string(128, '\0');
  for (int i = 0; i < 8; ++i) source.data += le(1.0F + static_cast<float>(i));
  const GgufModel model = source.open();
  const GgufWeight& norm = model.tensors.at("model.layers.0.post_feedforward_layernorm.weight");
  EXPECT_TRUE(torch::equal(load_tensor(norm), torch::arange(8).to(torch::kFloat32)));
  const EncodedTensor encoded = load_encoded(norm, nullptr);
  EXPECT_TRUE(torch::equal(decode_tensor(encoded.bytes, *encoded.format, encoded.shape),
                           load_tensor(norm)));
  EXPECT_EQ(model.config["attn_logit_softcapping"], 50.0);
  EXPECT_EQ(model.config["query_pre_attn_scalar"], 4);
}

TEST(GgufModel, RefusesRopeFactorsThatAreNotLlama3s) {
  Source source;
  source.tensors.push_back(gguf_tensor("rope_freqs.weight", {2}, kF32, 128));  // zeros
  source.expect_refused("tensor rope_freqs.weight: expected Llama 3.1's scaling");
  source.tensors.back() = gguf_tensor("rope_freqs.weight", {3}, kF32, 128);
  source.expect_refused("expected 2 F32 values");
}

TEST(GgufModel, RefusesHeadsOfOtherSizes) {
  Source source;
  source.set("rope.dimension_count", 2);
  source.expect_refused("llama.rope.dimension_count: expected 4, the size of a head, found 2");
}

}  // namespace
}  // namespace schmidt::io
