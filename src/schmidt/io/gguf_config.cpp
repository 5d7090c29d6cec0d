#include "schmidt/io/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numbers>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/dtype_names.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

constexpr GgufArchitecture kArchitectures[] = {
    {"llama", "llama", "LlamaForCausalLM", true},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", false},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", false},
};
constexpr GgufArchitecture kMistral{"llama", "mistral", "MistralForCausalLM", true};

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

  std::optional<std::string> text(std::string_view key) const {
    return file_.get_string(full(key));
  }

 private:
  std::string full(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }

  // Almost all floats of GGUF are float32 copies of decimals.
  static double shortest(double value) {
    const auto narrow = static_cast<float>(value);
    return static_cast<double>(narrow) == value ? std::stod(fmt::format("{}", narrow)) : value;
  }

  const GgufFile& file_;
  std::string_view prefix_;
};

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

// rope_freqs.weight [head_dim / 2] -> rope_scaling; null if nothing is scaled.
json scaling_from_factors(const GgufFile& file, const GgufTensor& tensor, int64_t head_dim,
                          double theta) {
  const auto fail = [&](const std::string& reason) {
    throw FormatError(file.path(), "tensor rope_freqs.weight", reason);
  };
  if (tensor.format->name != "F32" || tensor.shape != std::vector<int64_t>{head_dim / 2}) {
    fail(fmt::format("expected {} F32 values", head_dim / 2));
  }
  std::vector<float> factors(static_cast<size_t>(head_dim / 2));
  std::memcpy(factors.data(), tensor.bytes.data(), tensor.bytes.size());
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

json token_id(const GgufFile& file, const char* name) {
  const auto id = file.get_int(fmt::format("tokenizer.ggml.{}_token_id", name));
  return id ? json(*id) : json(nullptr);
}

}  // namespace

const GgufArchitecture& gguf_architecture(const GgufFile& file) {
  const auto name = file.get_string("general.architecture");
  if (!name) {
    throw FormatError(file.path(), "metadata general.architecture", "expected a value, found none");
  }
  const auto* found = std::ranges::find(kArchitectures, *name, &GgufArchitecture::name);
  if (found == std::end(kArchitectures)) {
    std::string known;
    for (const auto& a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a.name);
    throw FormatError(file.path(), "metadata general.architecture",
                      fmt::format("expected one of {}, found {}", known, name->substr(0, 40)));
  }
  const bool slides = file.get_int(*name + ".attention.sliding_window").value_or(0) > 0;
  return found->name == kMistral.name && slides ? kMistral : *found;
}

const GgufArchitecture* find_gguf_architecture(std::string_view model_type) {
  if (model_type == kMistral.model_type) return &kMistral;
  const auto* found = std::ranges::find(kArchitectures, model_type, &GgufArchitecture::model_type);
  return found == std::end(kArchitectures) ? nullptr : found;
}

std::string known_gguf_model_types() {
  std::string types;
  for (const auto& a : kArchitectures) types += std::string(a.model_type) + ", ";
  return types.substr(0, types.size() - 2) + " or " + std::string(kMistral.model_type);
}

json config_from_gguf(const GgufFile& file) {
  const GgufArchitecture& architecture = gguf_architecture(file);
  const Metadata metadata(file, architecture.name);
  const GgufTensor* embedding = find_tensor(file, "token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    throw FormatError(file.path(), "tensor token_embd.weight", "expected a matrix, found none");
  }

  if (file.get_int(fmt::format("{}.expert_count", architecture.name)).value_or(0) > 0) {
    metadata.fail("expert_count",
                  "expected a model with one MLP in each block, found a mixture of experts, which "
                  "is read from a Hugging Face folder alone");
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
    if (other != head_dim) {
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
      {"num_key_value_heads", metadata.find_size("attention.head_count_kv").value_or(heads)},
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
  };
  if (const json padding = token_id(file, "padding"); !padding.is_null()) {
    config["pad_token_id"] = padding;
  }
  if (architecture.model_type == kMistral.model_type) {
    config["sliding_window"] = metadata.size("attention.sliding_window");
  } else if (architecture.model_type != "qwen2") {  // which always has biases on q, k and v
    config["attention_bias"] = find_tensor(file, "blk.0.attn_q.bias") != nullptr;
  }
  if (architecture.model_type == "llama") {
    config["mlp_bias"] = find_tensor(file, "blk.0.ffn_gate.bias") != nullptr;
  }
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
