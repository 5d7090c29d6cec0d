#include "schmidt/io/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numbers>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/dtype_names.h"
#include "schmidt/io/gguf_architecture.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

// The metadata of one architecture: keys without its prefix.
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string_view prefix) : file_(file), prefix_(prefix) {}

  [[noreturn]] void fail(std::string_view key, const std::string& reason) const {
    throw FormatError(file_.path(), "metadata " + full(key), reason);
  }

  std::optional<int64_t> find_size(std::string_view key) const {
    const auto value = file_.get_int(full(key));
    if (value && *value <= 0) fail(key, fmt::format("expected 1 or more, found {}", *value));
    return value;
  }

  int64_t size(std::string_view key) const {
    const auto value = find_size(key);
    if (!value) fail(key, "expected a value, found none");
    return *value;
  }

  /// A size of every block: one value, or an array that says the same of each. 0 is none.
  std::optional<int64_t> find_size_of_blocks(std::string_view key) const {
    const auto found = file_.metadata().find(full(key));
    if (found == file_.metadata().end()) return std::nullopt;
    const auto* each = std::get_if<std::vector<int64_t>>(&found->second.data);
    if (each == nullptr) {
      return file_.get_int(full(key)) == 0 ? std::nullopt : find_size(key);
    }
    const bool alike = !each->empty() && each->front() > 0 &&
                       std::ranges::count(*each, each->front()) == std::ssize(*each);
    if (!alike) fail(key, "expected the same size, 1 or more, for every block, found others");
    return each->front();
  }

  std::optional<double> find_positive(std::string_view key) const {
    const auto value = file_.get_float(full(key));
    if (!value) return std::nullopt;
    if (!std::isfinite(*value) || *value <= 0) {
      fail(key, fmt::format("expected a positive number, found {}", *value));
    }
    return shortest(*value);
  }

  double positive(std::string_view key) const {
    const auto value = find_positive(key);
    if (!value) fail(key, "expected a value, found none");
    return *value;
  }

  double positive_or_zero(std::string_view key, double fallback = 0) const {
    return file_.get_float(full(key)) == 0.0 ? 0 : find_positive(key).value_or(fallback);
  }

  double positive(std::string_view key, double fallback) const {
    return find_positive(key).value_or(fallback);
  }

  std::optional<std::string> text(std::string_view key) const {
    return file_.get_string(full(key));
  }

  // Almost all floats of GGUF are float32 copies of decimals.
  static double shortest(double value) {
    const auto narrow = static_cast<float>(value);
    return static_cast<double>(narrow) == value ? std::stod(fmt::format("{}", narrow)) : value;
  }

 private:
  std::string full(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }

  const GgufFile& file_;
  std::string_view prefix_;
};

constexpr const char* kRotaryDim = "rope.dimension_count";

const GgufTensor* find_tensor(const GgufFile& file, const std::string& name) {
  const auto found = file.tensors().find(name);
  return found == file.tensors().end() ? nullptr : &found->second;
}

constexpr double kLlama3Low = 1;
constexpr double kLlama3High = 4;
constexpr double kLlama3Context = 8192;

// What Llama 3.1 divides the frequency of a wavelength by (transformers,
// modeling_rope_utils.py, _compute_llama3_parameters).
double llama3_divisor(double wavelength, double factor) {
  if (wavelength < kLlama3Context / kLlama3High) return 1;
  if (wavelength > kLlama3Context / kLlama3Low) return factor;
  const double smooth = (kLlama3Context / wavelength - kLlama3Low) / (kLlama3High - kLlama3Low);
  return 1 / ((1 - smooth) / factor + smooth);
}

// What a tensor divides the frequencies of so many pairs by.
std::vector<float> factors_of(const GgufFile& file, std::string_view name, const GgufTensor& tensor,
                              int64_t pairs) {
  if (tensor.format->name != "F32" || tensor.shape != std::vector<int64_t>{pairs}) {
    throw FormatError(file.path(), fmt::format("tensor {}", name),
                      fmt::format("expected {} F32 values", pairs));
  }
  std::vector<float> factors(static_cast<size_t>(pairs));
  std::memcpy(factors.data(), tensor.bytes.data(), tensor.bytes.size());
  return factors;
}

// rope_freqs.weight [head_dim / 2] -> rope_scaling; null if nothing is scaled.
json scaling_from_factors(const GgufFile& file, const GgufTensor& tensor, int64_t head_dim,
                          double theta) {
  const auto fail = [&](const std::string& reason) {
    throw FormatError(file.path(), "tensor rope_freqs.weight", reason);
  };
  const std::vector<float> factors = factors_of(file, kGgufRopeFactors, tensor, head_dim / 2);
  const double factor = std::ranges::max(factors);
  for (size_t i = 0; i < factors.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double expected =
        llama3_divisor(2 * std::numbers::pi * std::pow(theta, exponent), factor);
    if (!(std::abs(factors[i] - expected) <= 1e-3 * expected)) {
      fail(fmt::format("expected Llama 3.1's scaling by {}, which gives {} at {}, found {}", factor,
                       expected, i, factors[i]));
    }
  }
  if (factor == 1) return nullptr;
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", kLlama3Low},
          {"high_freq_factor", kLlama3High},
          {"original_max_position_embeddings", static_cast<int64_t>(kLlama3Context)}};
}

// What llama.cpp does with these keys (llama-context.cpp, rope_yarn in ggml), in the terms of
// transformers.
void add_yarn(const Metadata& metadata, json& scaling) {
  for (const char* key : {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"}) {
    const double value = metadata.find_positive(key).value_or(1);
    if (value != 1) metadata.fail(key, fmt::format("expected 1, found {}", value));
  }
  if (const auto fast = metadata.find_positive("rope.scaling.yarn_beta_fast")) {
    scaling["beta_fast"] = *fast;
  }
  if (const auto slow = metadata.find_positive("rope.scaling.yarn_beta_slow")) {
    scaling["beta_slow"] = *slow;
  }
  const double all_dim = metadata.positive_or_zero("rope.scaling.yarn_log_multiplier");
  if (all_dim != 0) {
    scaling["mscale"] = 1;
    scaling["mscale_all_dim"] = all_dim;
  }
  const double attention = metadata.find_positive("rope.scaling.attn_factor").value_or(1);
  if (attention == 1) return;
  // A factor on what transformers derives where none is given.
  const double logarithm = std::max(0.0, 0.1 * std::log(scaling.at("factor").get<double>()));
  scaling["attention_factor"] = attention * (1 + logarithm) / (1 + all_dim * logarithm);
}

json rope_scaling(const GgufFile& file, const Metadata& metadata, int64_t head_dim, double theta) {
  if (const GgufTensor* factors = find_tensor(file, "rope_freqs.weight")) {
    return scaling_from_factors(file, *factors, head_dim, theta);
  }
  // As llama.cpp: a factor without a type is linear, 0 is none, and older files name it otherwise.
  const std::string type = metadata.text("rope.scaling.type").value_or("linear");
  const bool longrope = type == "longrope" && find_tensor(file, std::string(kGgufLongFactors));
  if (longrope) return nullptr;  // Phi's, in its factors
  if (type != "none" && type != "linear" && type != "yarn") {
    metadata.fail("rope.scaling.type",
                  fmt::format("expected none, linear or yarn, found {}", type.substr(0, 40)));
  }
  const double old_factor = metadata.positive_or_zero("rope.scale_linear");
  const double factor = metadata.positive_or_zero("rope.scaling.factor", old_factor);
  if (type == "none" || factor == 0) return nullptr;
  json scaling{{"rope_type", type}, {"factor", factor}};
  if (const auto context = metadata.find_size("rope.scaling.original_context_length")) {
    scaling["original_max_position_embeddings"] = *context;
  }
  if (type == "yarn") add_yarn(metadata, scaling);
  return scaling;
}

/// The latest positions that a token attends to; 0: all.
int64_t window_of(const GgufFile& file, const GgufArchitecture& architecture) {
  return file.get_int(fmt::format("{}.attention.sliding_window", architecture.name)).value_or(0);
}

void add_granite(const Metadata& metadata, int64_t head_dim, json& config) {
  config["embedding_multiplier"] = metadata.positive_or_zero("embedding_scale");
  config["residual_multiplier"] = metadata.positive_or_zero("residual_scale");
  for (const char* key : {"embedding_multiplier", "residual_multiplier"}) {
    if (config[key] == 0.0) config[key] = 1.0;  // as llama.cpp
  }
  const double scale = metadata.positive_or_zero("attention.scale");
  config["attention_multiplier"] =
      scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(head_dim));
  config["logits_scaling"] = metadata.positive("logit_scale");
}

// One for each pair that turns; null where the file has none.
json rotary_factors(const GgufFile& file, std::string_view name, int64_t pairs) {
  const GgufTensor* tensor = find_tensor(file, std::string(name));
  if (tensor == nullptr) return nullptr;
  json shortest = json::array();
  for (const float factor : factors_of(file, name, *tensor, pairs)) {
    shortest.push_back(Metadata::shortest(factor));
  }
  return shortest;
}

void add_phi3(const GgufFile& file, const Metadata& metadata, int64_t head_dim, json& config) {
  const int64_t turning = metadata.find_size(kRotaryDim).value_or(head_dim);
  config["partial_rotary_factor"] = static_cast<double>(turning) / static_cast<double>(head_dim);
  const json longer = rotary_factors(file, kGgufLongFactors, turning / 2);
  const json shorter = rotary_factors(file, kGgufShortFactors, turning / 2);
  if (longer.is_null() && shorter.is_null()) {
    if (!config.at("rope_scaling").is_null()) {
      metadata.fail("rope.scaling.type",
                    "expected none, or factors for every pair, as Phi has them");
    }
    return;
  }
  const int64_t original = metadata.size("rope.scaling.original_context_length");
  config["original_max_position_embeddings"] = original;
  config["rope_scaling"] = {
      {"rope_type", "longrope"},
      {"long_factor", longer.is_null() ? shorter : longer},
      {"short_factor", shorter.is_null() ? longer : shorter},
      {"attention_factor", metadata.positive("rope.scaling.attn_factor", 1.0)}};
}

void add_gemma(const GgufFile& file, const Metadata& metadata, const GgufArchitecture& architecture,
               json& config) {
  const bool third = architecture.model_type == "gemma3_text";
  config.erase("hidden_act");
  config["hidden_activation"] = "gelu_pytorch_tanh";
  const int64_t hidden = config.at("hidden_size"), heads = config.at("num_attention_heads");
  const bool wide = config.at("num_hidden_layers") == architecture.wide_scale_blocks;
  config["query_pre_attn_scalar"] = wide ? json(hidden / heads) : config.at("head_dim");
  const auto cap = [&](const char* key, double fallback) {
    const double value = metadata.positive_or_zero(key, fallback);
    return value > 0 ? json(value) : json(nullptr);
  };
  config["attn_logit_softcapping"] = third ? json(nullptr) : cap("attn_logit_softcapping", 50.0);
  config["final_logit_softcapping"] = cap("final_logit_softcapping", third ? 0.0 : 30.0);
  if (third) config["rope_local_base_freq"] = metadata.positive("rope.freq_base_swa", 10000);
  const int64_t window = window_of(file, architecture);
  const int64_t pattern =
      metadata.find_size("attention.sliding_window_pattern").value_or(third ? 6 : 2);
  config["sliding_window"] = window > 0 ? window : 4096;
  // Gemma 3 without a window has none in any block.
  config["sliding_window_pattern"] = third && window == 0 ? 1 : pattern;
}

constexpr int64_t kMostExperts = 1024;  // of a block, as llama.cpp

void add_experts(const Metadata& metadata, const GgufArchitecture& architecture, json& config) {
  const std::string_view type = architecture.model_type;
  const bool mixtral = type == "mixtral";
  const int64_t count = metadata.size("expert_count");
  if (count > kMostExperts) {
    metadata.fail("expert_count",
                  fmt::format("expected at most {}, found {}", kMostExperts, count));
  }
  config[mixtral ? "num_local_experts" : "num_experts"] = count;
  const int64_t active = metadata.size("expert_used_count");
  config["num_experts_per_tok"] = active;
  if (mixtral) return;
  config["moe_intermediate_size"] =
      metadata.find_size_of_blocks("expert_feed_forward_length")
          .value_or(config.at("intermediate_size").get<int64_t>() / active);
  config["norm_topk_prob"] = architecture.normalized_shares;
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = json::array();
  if (type == "qwen2_moe") {
    config["shared_expert_intermediate_size"] =
        metadata.find_size("expert_shared_feed_forward_length")
            .value_or(config.at("intermediate_size").get<int64_t>());
  }
}

json token_id(const GgufFile& file, const char* name) {
  const auto id = file.get_int(fmt::format("tokenizer.ggml.{}_token_id", name));
  return id ? json(*id) : json(nullptr);
}

}  // namespace

json config_from_gguf(const GgufFile& file) {
  if (file.get_string("general.type").value_or("model") == "adapter") {
    throw FormatError(file.path(), "general.type",
                      "expected a model, found an adapter, which needs the model that it is for");
  }
  const GgufArchitecture& architecture = gguf_architecture(file);
  const Metadata metadata(file, architecture.name);
  const GgufTensor* embedding = find_tensor(file, "token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    throw FormatError(file.path(), "tensor token_embd.weight", "expected a matrix, found none");
  }

  const int64_t hidden = metadata.size("embedding_length");
  const int64_t heads = metadata.size("attention.head_count");
  if (heads > hidden) {
    metadata.fail("attention.head_count",
                  fmt::format("expected at most {}, the hidden size, found {}", hidden, heads));
  }
  const int64_t head_dim = metadata.find_size("attention.key_length").value_or(hidden / heads);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const int64_t other = metadata.find_size(key).value_or(head_dim);
    const bool part = architecture.model_type == "phi3" && key == std::string_view(kRotaryDim);
    if (part ? other > head_dim : other != head_dim) {
      metadata.fail(key, fmt::format("expected {}, the size of a head, found {}", head_dim, other));
    }
  }
  const double theta = metadata.find_positive("rope.freq_base").value_or(10000);

  json config{
      {"architectures", {architecture.model_class}},
      {"model_type", architecture.model_type},
      {"vocab_size", embedding->shape.front()},
      {"hidden_size", hidden},
      {"intermediate_size", metadata.size("feed_forward_length")},
      {"num_hidden_layers", metadata.size("block_count")},
      {"num_attention_heads", heads},
      {"num_key_value_heads",
       metadata.find_size_of_blocks("attention.head_count_kv").value_or(heads)},
      {"head_dim", head_dim},
      {"hidden_act", "silu"},
      {"rms_norm_eps", metadata.positive("attention.layer_norm_rms_epsilon")},
      {"max_position_embeddings", metadata.size("context_length")},
      {"rope_theta", theta},
      {"rope_scaling", rope_scaling(file, metadata, head_dim, theta)},
      {"tie_word_embeddings", find_tensor(file, "output.weight") == nullptr},
      {"torch_dtype", dtype_name(decoded_dtype(*embedding->format))},
      {"bos_token_id", token_id(file, "bos")},
      {"eos_token_id", token_id(file, "eos")},
      // Null too: some families have a default of their own, beyond a smaller vocabulary.
      {"pad_token_id", token_id(file, "padding")},
  };
  const auto has_bias = [&](const char* layer) {
    return find_tensor(file, fmt::format("blk.0.{}.bias", layer)) != nullptr;
  };
  const std::string_view type = architecture.model_type;
  const int64_t window = window_of(file, architecture);
  if (window > 0 && (type == "mistral" || type == "mixtral")) config["sliding_window"] = window;
  if (type == "phi3") config["sliding_window"] = window > 0 ? json(window) : json(nullptr);
  if (window > 0 && type == "olmo2") {  // OLMo 3's
    metadata.fail("attention.sliding_window",
                  fmt::format("expected none, as in OLMo 2, found {}", window));
  }
  // Qwen 2 always has biases on q, k and v, and Mistral and Phi none.
  if (type == "llama" || type == "qwen3" || type == "granite") {
    config["attention_bias"] = has_bias("attn_q") || has_bias("attn_k");
  }
  if (type == "llama" || type == "granite") config["mlp_bias"] = has_bias("ffn_gate");
  if (type == "granite") add_granite(metadata, head_dim, config);
  if (type == "phi3") add_phi3(file, metadata, head_dim, config);
  if (type.starts_with("gemma")) add_gemma(file, metadata, architecture, config);
  if (architecture.experts) add_experts(metadata, architecture, config);
  return config;
}

json generation_config_from_gguf(const GgufFile& file) {
  json config = json::object();
  const auto set = [&](const char* key, const json& id) {
    if (!id.is_null()) config[key] = id;
  };
  set("bos_token_id", token_id(file, "bos"));
  set("pad_token_id", token_id(file, "padding"));
  json stops = json::array();
  for (const char* name : {"eos", "eot", "eom"}) {
    const json id = token_id(file, name);
    if (!id.is_null() && std::find(stops.begin(), stops.end(), id) == stops.end()) {
      stops.push_back(id);
    }
  }
  if (!stops.empty()) config["eos_token_id"] = stops.size() == 1 ? stops.at(0) : stops;
  return config;
}

}  // namespace schmidt::io
