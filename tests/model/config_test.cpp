#include "schmidt/model/config.h"

#include <cmath>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

namespace schmidt::model {
namespace {

using nlohmann::json;

json llama() {
  return {{"model_type", "llama"},      {"vocab_size", 100},
          {"hidden_size", 48},          {"intermediate_size", 80},
          {"num_hidden_layers", 4},     {"num_attention_heads", 6},
          {"num_key_value_heads", 2},   {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},       {"hidden_act", "silu"},
          {"tie_word_embeddings", true}};
}

json with(json config, const json& changes) {
  config.merge_patch(changes);
  return config;
}

std::string message_of(const json& config) {
  try {
    parse_config(config, "m/config.json");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Config, ReadsTheSizes) {
  const ModelConfig c = parse_config(llama(), "config.json");
  EXPECT_EQ(c.model_type, "llama");
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.q_features(), 48);
  EXPECT_EQ(c.kv_features(), 16);
  EXPECT_TRUE(c.tie_embeddings);
  EXPECT_FALSE(c.attention_bias || c.output_bias || c.mlp_bias);
  EXPECT_EQ(c.qk_norm, QkNorm::kNone);
  EXPECT_EQ(c.windows, std::vector<std::optional<int64_t>>(4));
  EXPECT_EQ(c.rope.theta, 10000.0);
  EXPECT_TRUE(c.eos_ids.empty());
  EXPECT_TRUE(c.compressed_layers.empty());
  EXPECT_EQ(c.mlp_sizes, std::vector<int64_t>(4, c.intermediate_size));
}

TEST(Config, ReadsTheSizesOfPrunedMlps) {
  nlohmann::json config = llama();
  config["compression_config"] = {{"version", 1}, {"mlp_sizes", {10, 20, 30, 40}}};
  EXPECT_EQ(parse_config(config, "config.json").mlp_sizes, (std::vector<int64_t>{10, 20, 30, 40}));
}

// As transformers 5 does where a user adds the older key to what it has saved.
TEST(Config, TheOlderKeyOfRopeGoesBeforeTheNewerOne) {
  const json saved = {{"rope_type", "default"}, {"rope_theta", 500.0}};
  const json linear = {{"type", "linear"}, {"factor", 2.0}};
  const ModelConfig both = parse_config(
      with(llama(), {{"rope_parameters", saved}, {"rope_scaling", linear}}), "config.json");
  EXPECT_EQ(both.rope.scaling, RopeScaling::kLinear);
  for (const json& none : {json(), json::object()}) {
    const ModelConfig c = parse_config(
        with(llama(), {{"rope_parameters", saved}, {"rope_scaling", none}}), "config.json");
    EXPECT_EQ(c.rope.scaling, RopeScaling::kNone);
    EXPECT_EQ(c.rope.theta, 500.0);
  }
}

TEST(Config, TakesBothSpellingsOfRopeAndDtype) {
  const json scaling = {{"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 16}};
  const ModelConfig v5 = parse_config(
      with(llama(),
           {{"rope_parameters", with(scaling, {{"rope_type", "llama3"}, {"rope_theta", 500.0}})},
            {"dtype", "bfloat16"}}),
      "config.json");
  for (const char* key : {"type", "rope_type"}) {
    const ModelConfig v4 =
        parse_config(with(llama(), {{"rope_scaling", with(scaling, {{key, "llama3"}})},
                                    {"rope_theta", 500},
                                    {"torch_dtype", "bfloat16"}}),
                     "config.json");
    for (const ModelConfig& c : {v4, v5}) {
      EXPECT_EQ(c.rope.theta, 500.0);
      EXPECT_EQ(c.rope.scaling, RopeScaling::kLlama3);
      EXPECT_EQ(c.rope.factor, 8.0);
      EXPECT_EQ(c.rope.original_max_positions, 16);
      EXPECT_EQ(c.dtype, torch::kBFloat16);
    }
  }
}

RopeConfig rope_of(const json& scaling) {
  return parse_config(with(llama(), {{"rope_scaling", scaling}}), "config.json").rope;
}

TEST(Config, YarnAsQwenDocumentsIt) {
  const json config = with(llama(), {{"max_position_embeddings", 32768}});
  for (const char* key : {"type", "rope_type"}) {
    const json scaling = {
        {key, "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
    const ModelConfig c = parse_config(with(config, {{"rope_scaling", scaling}}), "config.json");
    EXPECT_EQ(c.rope.scaling, RopeScaling::kYarn);
    EXPECT_EQ(c.rope.original_max_positions, 32768);
    EXPECT_EQ(c.max_positions, 131072);
    EXPECT_NEAR(c.rope.attention_factor, 0.1 * std::log(4.0) + 1, 1e-12);
  }
}

TEST(Config, YarnReadsWhatTransformersReads) {
  const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}};
  EXPECT_EQ(rope_of(yarn).original_max_positions, llama().at("max_position_embeddings"));
  EXPECT_EQ(rope_of(yarn).beta_fast, 32.0);
  EXPECT_EQ(rope_of(yarn).beta_slow, 1.0);
  EXPECT_TRUE(rope_of(yarn).truncate);
  EXPECT_EQ(rope_of(with(yarn, {{"beta_fast", 0}, {"beta_slow", nullptr}})).beta_fast, 32.0);
  EXPECT_FALSE(rope_of(with(yarn, {{"truncate", false}})).truncate);
  EXPECT_EQ(rope_of(with(yarn, {{"attention_factor", 1.5}})).attention_factor, 1.5);
  const double logarithm = 0.1 * std::log(4.0);
  EXPECT_NEAR(rope_of(with(yarn, {{"mscale", 2}, {"mscale_all_dim", 0.5}})).attention_factor,
              (1 + 2 * logarithm) / (1 + 0.5 * logarithm), 1e-12);
  EXPECT_NEAR(rope_of(with(yarn, {{"mscale", 2}})).attention_factor, 1 + logarithm, 1e-12);
  EXPECT_EQ(rope_of(with(yarn, {{"factor", 0.5}})).attention_factor, 1.0);

  // Without a factor it is how much longer the context is than the original.
  const json ratio = {{"rope_type", "yarn"}, {"original_max_position_embeddings", 16}};
  EXPECT_EQ(rope_of(ratio).factor, llama().at("max_position_embeddings").get<double>() / 16);

  const json outside = with(llama(), {{"original_max_position_embeddings", 32},
                                      {"rope_scaling", with(ratio, {{"factor", 3}})}});
  const ModelConfig c = parse_config(outside, "config.json");
  EXPECT_EQ(c.rope.original_max_positions, 32);
  EXPECT_EQ(c.rope.factor, 3.0);
}

TEST(Config, DynamicScalingStretchesTheContext) {
  const int64_t trained = llama().at("max_position_embeddings");
  const ModelConfig c = parse_config(
      with(llama(), {{"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}}), "config.json");
  EXPECT_EQ(c.rope.scaling, RopeScaling::kDynamic);
  EXPECT_EQ(c.rope.original_max_positions, trained);
  EXPECT_EQ(c.max_positions, 2 * trained);
}

TEST(Config, ReadsTheScalesOfGranite) {
  const json config = with(llama(), {{"model_type", "granite"},
                                     {"embedding_multiplier", 12},
                                     {"attention_multiplier", 0.0078125},
                                     {"residual_multiplier", 0.22},
                                     {"logits_scaling", 8.0}});
  const ModelConfig c = parse_config(config, "config.json");
  EXPECT_EQ(c.embedding_scale, 12.0);
  EXPECT_EQ(c.attention_scale, 0.0078125);
  EXPECT_EQ(c.residual_scale, 0.22);
  EXPECT_EQ(c.logit_scale, 0.125);
  const ModelConfig plain = parse_config(with(llama(), {{"model_type", "granite"}}), "config.json");
  EXPECT_EQ(plain.attention_scale, 1.0);  // as transformers has it, not 1 / sqrt(d)
}

TEST(Config, ReadsGemmaWithItsDefaults) {
  json config = with(llama(), {{"model_type", "gemma2"},
                               {"hidden_act", "gelu_pytorch_tanh"},
                               {"num_hidden_layers", 3},
                               {"head_dim", 16}});
  config.erase("tie_word_embeddings");
  const ModelConfig two = parse_config(config, "config.json");
  EXPECT_TRUE(two.tie_embeddings);
  EXPECT_EQ(two.windows, (std::vector<std::optional<int64_t>>{4096, std::nullopt, 4096}));
  EXPECT_EQ(two.attention_softcap, 50.0);
  EXPECT_EQ(two.logit_softcap, 30.0);
  EXPECT_EQ(two.attention_scale, 1.0 / 16);
  EXPECT_EQ(two.embedding_scale, std::sqrt(static_cast<double>(two.hidden_size)));
  EXPECT_EQ(two.norm_offset, 1.0);
  json told = config;  // null is a statement
  told["attn_logit_softcapping"] = nullptr;
  EXPECT_FALSE(parse_config(told, "config.json").attention_softcap);
  told["sliding_window"] = nullptr;
  EXPECT_EQ(message_of(told), "m/config.json: sliding_window: expected an integer, got null");

  const ModelConfig three = parse_config(
      with(config, {{"model_type", "gemma3_text"}, {"sliding_window_pattern", 2}}), "config.json");
  EXPECT_EQ(three.windows, two.windows);
  EXPECT_EQ(three.rope.theta, 1e6);
  EXPECT_EQ(three.rope.local_theta, 1e4);
  EXPECT_FALSE(three.attention_softcap || three.logit_softcap);
}

TEST(Config, ReadsPhiWithLongrope) {
  const json scaling = {{"type", "longrope"}, {"short_factor", {1, 1}}, {"long_factor", {2, 3}}};
  const json config = with(llama(), {{"model_type", "phi3"},
                                     {"head_dim", 8},
                                     {"partial_rotary_factor", 0.5},
                                     {"max_position_embeddings", 131072},
                                     {"original_max_position_embeddings", 4096},
                                     {"rope_scaling", scaling}});
  const ModelConfig c = parse_config(config, "config.json");
  EXPECT_EQ(c.rope.scaling, RopeScaling::kLongRope);
  EXPECT_EQ(c.rope.partial_factor, 0.5);
  EXPECT_EQ(c.rope.long_factors, (std::vector<double>{2, 3}));
  EXPECT_EQ(c.rope.original_max_positions, 4096);
  EXPECT_NEAR(c.rope.attention_factor, std::sqrt(1 + std::log(32.0) / std::log(4096.0)), 1e-12);
  EXPECT_EQ(c.max_positions, 131072);
  EXPECT_FALSE(c.windows.front());
}

TEST(Config, KnowsWhatEachFamilyFixes) {
  const ModelConfig qwen2 =
      parse_config(with(llama(), {{"model_type", "qwen2"}, {"sliding_window", 8}}), "config.json");
  EXPECT_TRUE(qwen2.attention_bias);
  EXPECT_FALSE(qwen2.output_bias);
  EXPECT_EQ(qwen2.windows[3], std::nullopt);  // use_sliding_window is not set

  const ModelConfig qwen3 = parse_config(with(llama(), {{"model_type", "qwen3"}}), "config.json");
  EXPECT_EQ(qwen3.qk_norm, QkNorm::kHeads);
  EXPECT_EQ(qwen3.head_dim, 128);

  const ModelConfig mistral = parse_config(
      with(llama(), {{"model_type", "mistral"}, {"sliding_window", 8}}), "config.json");
  EXPECT_EQ(mistral.windows[0], 8);
  json unlimited = with(llama(), {{"model_type", "mistral"}});
  EXPECT_EQ(parse_config(unlimited, "config.json").windows[0], 4096);
  unlimited["sliding_window"] = nullptr;
  EXPECT_EQ(parse_config(unlimited, "config.json").windows[0], std::nullopt);
}

TEST(Config, SlidesTheLayersThatAreNamed) {
  const json qwen =
      with(llama(), {{"model_type", "qwen2"}, {"use_sliding_window", true}, {"sliding_window", 5}});
  const auto windows = [](const json& config) { return parse_config(config, "c").windows; };
  using Windows = std::vector<std::optional<int64_t>>;
  EXPECT_EQ(windows(with(qwen, {{"max_window_layers", 3}})), (Windows{{}, {}, {}, 5}));
  const json types = {"sliding_attention", "full_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows(with(qwen, {{"layer_types", types}})), (Windows{5, {}, {}, 5}));
}

TEST(Config, ReadsOneEndOfTextOrSeveral) {
  EXPECT_EQ(parse_config(with(llama(), {{"eos_token_id", 2}, {"bos_token_id", 1}}), "c").eos_ids,
            std::vector<int64_t>{2});
  const ModelConfig c =
      parse_config(with(llama(), {{"eos_token_id", {2, 7}}, {"bos_token_id", -1}}), "c");
  EXPECT_EQ(c.eos_ids, (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(c.bos_id, std::nullopt);
}

TEST(Config, NamesTheFamiliesItKnows) {
  const std::string message = message_of(with(llama(), {{"model_type", "gpt2"}}));
  EXPECT_EQ(message,
            "m/config.json: model_type: expected one of llama, mistral, qwen2, qwen3, mixtral, "
            "qwen2_moe, qwen3_moe, granite, olmo2, phi3, gemma2, gemma3_text, got \"gpt2\"");
}

struct Lie {
  const char* name;
  json changes;
  const char* message;  // a part of it
};

class ConfigLies : public testing::TestWithParam<Lie> {};

TEST_P(ConfigLies, IsRefusedInOneLine) {
  const std::string message = message_of(with(llama(), GetParam().changes));
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, ConfigLies,
    testing::Values(
        Lie{"heads",
            {{"num_attention_heads", 7}, {"num_key_value_heads", 7}},
            "num_attention_heads: expected a divisor of hidden_size 48, got 7"},
        Lie{"kv_heads",
            {{"num_key_value_heads", 4}},
            "num_key_value_heads: expected a divisor of num_attention_heads 6, got 4"},
        Lie{"negative", {{"hidden_size", -48}}, "hidden_size: expected an integer in"},
        Lie{"mlp_sizes",
            {{"compression_config", {{"version", 1}, {"mlp_sizes", {10, 20}}}}},
            "compression_config.mlp_sizes: expected a list of 4 sizes, got [10,20]"},
        Lie{"mlp_size",
            {{"compression_config", {{"version", 1}, {"mlp_sizes", {10, 20, 30, 1 << 20}}}}},
            "compression_config.mlp_sizes: expected an integer in"},
        Lie{"zero", {{"num_key_value_heads", 0}}, "num_key_value_heads: expected an integer in"},
        Lie{"huge", {{"vocab_size", 9223372036854775807}}, "vocab_size: expected an integer in"},
        Lie{"unsigned", {{"vocab_size", 18446744073709551615U}}, "vocab_size: expected"},
        Lie{"product",
            {{"head_dim", 1 << 28}},
            "head_dim: expected num_attention_heads * head_dim"},
        Lie{"layers", {{"num_hidden_layers", 1000000000}}, "num_hidden_layers: expected"},
        Lie{"fraction", {{"hidden_size", 48.5}}, "hidden_size: expected an integer in"},
        Lie{"string", {{"hidden_size", "48"}}, "hidden_size: expected an integer in"},
        Lie{"missing", {{"hidden_size", nullptr}}, "hidden_size: expected an integer, got nothing"},
        Lie{"odd_head", {{"head_dim", 7}}, "head_dim: expected an even number, got 7"},
        Lie{"eps", {{"rms_norm_eps", 0}}, "rms_norm_eps: expected a number above 0, got 0"},
        Lie{"theta", {{"rope_theta", -1}}, "rope_theta: expected a number above 0, got -1"},
        Lie{"rope",
            {{"rope_scaling", {{"type", "longrope"}, {"factor", 2}}}},
            "rope_scaling.rope_type: expected one of default, linear, llama3, yarn, dynamic, got "
            "\"longrope\""},
        Lie{"yarn_factor",
            {{"rope_scaling", {{"type", "yarn"}}}},
            "rope_scaling.factor: expected a number above 0, got nothing"},
        Lie{"yarn_bounds",
            {{"rope_scaling",
              {{"type", "yarn"}, {"factor", 2}, {"beta_fast", 1}, {"beta_slow", 2}}}},
            "rope_scaling.beta_fast: expected beta_slow 2 or more, got 1"},
        Lie{"yarn_truncate",
            {{"rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"truncate", 1}}}},
            "rope_scaling.truncate: expected true or false, got 1"},
        Lie{"yarn_original",
            {{"rope_scaling",
              {{"type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", 0}}}},
            "rope_scaling.original_max_position_embeddings: expected an integer in"},
        Lie{"yarn_theta",
            {{"rope_theta", 1}, {"rope_scaling", {{"type", "yarn"}, {"factor", 2}}}},
            "rope_scaling.rope_theta: expected more than 1 with yarn, got 1"},
        Lie{"dynamic_head",
            {{"head_dim", 2}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}},
            "head_dim: expected more than 2 with dynamic scaling, got 2"},
        Lie{"rope_array", {{"rope_scaling", {1, 2}}}, "rope_scaling: expected an object"},
        Lie{"factor",
            {{"rope_scaling", {{"type", "linear"}}}},
            "rope_scaling.factor: expected a number above 0, got nothing"},
        Lie{"bands",
            {{"rope_scaling",
              {{"rope_type", "llama3"},
               {"factor", 8},
               {"low_freq_factor", 4},
               {"high_freq_factor", 4}}}},
            "high_freq_factor: expected more than low_freq_factor"},
        Lie{"factors",
            {{"model_type", "phi3"},
             {"rope_scaling", {{"type", "su"}, {"short_factor", {1}}, {"long_factor", {1}}}}},
            "rope_scaling.short_factor: expected an array of "},
        Lie{"rotation",
            {{"model_type", "phi3"}, {"partial_rotary_factor", 0.01}},
            "partial_rotary_factor: expected a factor that leaves an even number"},
        Lie{"direction",
            {{"model_type", "gemma3_text"},
             {"hidden_act", "gelu_pytorch_tanh"},
             {"use_bidirectional_attention", true}},
            "use_bidirectional_attention: expected false"},
        Lie{"gate", {{"model_type", "gemma2"}}, "hidden_act: expected gelu_pytorch_tanh, got"},
        Lie{"activation", {{"hidden_act", "gelu"}}, "hidden_act: expected silu, got \"gelu\""},
        Lie{"tied",
            {{"tie_word_embeddings", "yes"}},
            "tie_word_embeddings: expected true or false"},
        Lie{"dtype", {{"torch_dtype", "int8"}}, "dtype: expected one of float32"},
        Lie{"eos", {{"eos_token_id", "two"}}, "eos_token_id: expected an integer"},
        Lie{"window",
            {{"model_type", "mistral"}, {"sliding_window", 0}},
            "sliding_window: expected an integer in"},
        Lie{"experts",
            {{"model_type", "mixtral"}, {"num_local_experts", 0}},
            "num_local_experts: expected an integer in [1, "},
        Lie{"active",
            {{"model_type", "qwen3_moe"}, {"num_experts", 4}, {"num_experts_per_tok", 5}},
            "num_experts_per_tok: expected an integer in [1, 4], got 5"},
        Lie{"single",
            {{"model_type", "qwen2_moe"}, {"mlp_only_layers", {4}}},
            "mlp_only_layers: expected an integer in [0, 3], got 4"},
        Lie{"layer_types",
            {{"model_type", "qwen2"},
             {"use_sliding_window", true},
             {"layer_types", {"full_attention"}}},
            "layer_types: expected an array of 4 names"},
        Lie{"compression",
            {{"compression_config", {{"version", 2}}}},
            "compression_config.version: expected an integer in [1, 1], got 2"},
        Lie{"compression_layers",
            {{"compression_config", {{"version", 1}, {"layers", {1}}}}},
            "compression_config.layers: expected an object"}),
    [](const auto& lie) { return std::string(lie.param.name); });

TEST(Config, RefusesWhatIsNoObject) {
  EXPECT_NE(message_of(json::array()).find("expected an object"), std::string::npos);
}

}  // namespace
}  // namespace schmidt::model
