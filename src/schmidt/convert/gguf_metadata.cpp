#include "schmidt/convert/gguf_metadata.h"

#include <cmath>
#include <exception>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/io/gguf_names.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/rope_table.h"
#include "schmidt/package/model_card.h"

namespace schmidt::convert {
namespace {

using model::RopeScaling;

/// "model.layers.0.self_attn.o_proj and 27 more".
std::string named(const std::vector<std::string>& layers) {
  if (layers.size() <= 1) return layers.empty() ? "" : layers.front();
  return fmt::format("{} and {} more", layers.front(), layers.size() - 1);
}

std::vector<std::string> in_every_block(const model::ModelConfig& config, const char* layer) {
  std::vector<std::string> names;
  for (int64_t block = 0; block < config.num_layers; ++block) {
    names.push_back(model::block_prefix(block) + layer);
  }
  return names;
}

/// Layers of the model that the architecture does not compute, and why.
struct Lack {
  std::string what;
  std::vector<std::string> layers;
};

std::vector<Lack> lacks_of(const model::ModelConfig& config) {
  std::vector<Lack> lacks;
  const bool is_qwen = config.model_type.starts_with("qwen");
  std::vector<std::string> windows;
  for (int64_t block = 0; block < config.num_layers; ++block) {
    if (config.windows[block]) windows.push_back(model::block_prefix(block) + "self_attn");
  }
  // Of Mistral all have one; llama.cpp reads it and attends to more.
  if (is_qwen && !windows.empty()) lacks.push_back({"a sliding window", windows});
  if (is_qwen && config.output_bias) {
    lacks.push_back({"a bias", in_every_block(config, "self_attn.o_proj")});
  }
  if (is_qwen && config.mlp_bias) {
    lacks.push_back({"a bias", in_every_block(config, "mlp.gate_proj")});
  }
  if (config.model_type == "qwen2" && config.q_features() != config.hidden_size) {
    lacks.push_back(
        {fmt::format("heads of {} values in all, not {}", config.q_features(), config.hidden_size),
         in_every_block(config, "self_attn.q_proj")});
  }
  if (config.rope.scaling == RopeScaling::kDynamic) {
    lacks.push_back({"RoPE scaling of the type dynamic", in_every_block(config, "self_attn")});
  }
  if (config.rope.scaling == RopeScaling::kYarn && !config.rope.truncate) {
    lacks.push_back(
        {"RoPE scaling of the type yarn without truncate", in_every_block(config, "self_attn")});
  }
  return lacks;
}

void add_rope(std::map<std::string, io::GgufValue>& keys, const std::string& prefix,
              const model::RopeConfig& rope) {
  keys[prefix + "rope.freq_base"] = {static_cast<float>(rope.theta)};
  if (rope.scaling != RopeScaling::kLinear && rope.scaling != RopeScaling::kYarn) return;
  const bool yarn = rope.scaling == RopeScaling::kYarn;
  const std::string scaling = prefix + "rope.scaling.";
  keys[scaling + "type"] = {yarn ? "yarn" : "linear"};
  keys[scaling + "factor"] = {static_cast<float>(rope.factor)};
  if (!yarn) return;
  keys[scaling + "original_context_length"] = {rope.original_max_positions};
  keys[scaling + "yarn_beta_fast"] = {static_cast<float>(rope.beta_fast)};
  keys[scaling + "yarn_beta_slow"] = {static_cast<float>(rope.beta_slow)};
  // What llama.cpp multiplies attention by where it is told nothing.
  const double derived = 1 + 0.1 * std::log(std::max(1.0, rope.factor));
  const double attention = rope.attention_factor / derived;
  if (std::abs(attention - 1) > 1e-6) {
    keys[scaling + "attn_factor"] = {static_cast<float>(attention)};
  }
}

}  // namespace

const io::GgufArchitecture& gguf_architecture_of(const model::ModelConfig& config) {
  const io::GgufArchitecture* architecture = io::find_gguf_architecture(config.model_type);
  TORCH_CHECK_VALUE(architecture != nullptr, "[export] expected a model of type ",
                    io::known_gguf_model_types(), " for a GGUF file, got ", config.model_type);
  for (const Lack& lack : lacks_of(config)) {
    TORCH_CHECK_VALUE(false, "[export] expected a model that llama.cpp's architecture ",
                      std::string(architecture->name), " computes, got ", lack.what, " in ",
                      named(lack.layers));
  }
  return *architecture;
}

int64_t interleaved_heads(const std::string& gguf_name, const model::ModelConfig& config) {
  const io::GgufArchitecture* architecture = io::find_gguf_architecture(config.model_type);
  if (architecture == nullptr || !architecture->interleaved_qk) return 0;
  const std::string_view part = io::part_of_block(gguf_name);
  return part == "attn_q" ? config.num_heads : part == "attn_k" ? config.num_kv_heads : 0;
}

std::map<std::string, io::GgufValue> gguf_model_keys(const io::Checkpoint& checkpoint,
                                                     const model::ModelConfig& config) {
  const io::GgufArchitecture& architecture = gguf_architecture_of(config);
  const std::string prefix = std::string(architecture.name) + ".";
  const int64_t context = checkpoint.config().at("max_position_embeddings").get<int64_t>();

  std::map<std::string, io::GgufValue> keys;
  keys["general.architecture"] = {std::string(architecture.name)};
  keys["general.type"] = {"model"};
  keys["general.name"] = {package::model_name(checkpoint)};
  keys[prefix + "vocab_size"] = {config.vocab_size};
  keys[prefix + "context_length"] = {context};
  keys[prefix + "embedding_length"] = {config.hidden_size};
  keys[prefix + "block_count"] = {config.num_layers};
  keys[prefix + "feed_forward_length"] = {config.intermediate_size};
  keys[prefix + "attention.head_count"] = {config.num_heads};
  keys[prefix + "attention.head_count_kv"] = {config.num_kv_heads};
  keys[prefix + "attention.key_length"] = {config.head_dim};
  keys[prefix + "attention.value_length"] = {config.head_dim};
  keys[prefix + "attention.layer_norm_rms_epsilon"] = {static_cast<float>(config.rms_norm_eps)};
  keys[prefix + "rope.dimension_count"] = {config.head_dim};
  if (!config.windows.empty() && config.windows.front()) {
    keys[prefix + "attention.sliding_window"] = {*config.windows.front()};
  }
  add_rope(keys, prefix, config.rope);
  return keys;
}

std::optional<torch::Tensor> gguf_rope_factors(const model::ModelConfig& config) {
  if (config.rope.scaling != RopeScaling::kLlama3) return std::nullopt;
  model::RopeConfig plain = config.rope;
  plain.scaling = RopeScaling::kNone;
  return model::rope_frequencies(plain, config.head_dim, 1) /
         model::rope_frequencies(config.rope, config.head_dim, 1);
}

bool is_exported_gguf(const std::filesystem::path& file) {
  try {
    return io::GgufFile::open_part(file).metadata().contains(kGgufMadeBy);
  } catch (const std::exception&) {  // whatever it is, it was not written here
    return false;
  }
}

}  // namespace schmidt::convert
