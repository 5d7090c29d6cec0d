#include "schmidt/convert/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <vector>

#include <ATen/ops/tensor.h>
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

/// What llama.cpp multiplies Gemma's scores by.
double gemma_scale(const model::ModelConfig& config, const io::GgufArchitecture& architecture) {
  const bool wide = config.num_layers == architecture.wide_scale_blocks;
  const int64_t divisor = wide ? config.hidden_size / config.num_heads : config.head_dim;
  return 1 / std::sqrt(static_cast<double>(divisor));
}

/// Every n-th block sees all positions and the others a window, as llama.cpp says it. None where
/// the windows are no such pattern.
std::optional<int64_t> window_pattern(const model::ModelConfig& config) {
  for (int64_t n = 1; n <= config.num_layers + 1; ++n) {
    bool fits = true;
    for (int64_t b = 0; b < config.num_layers; ++b) {
      fits &= config.windows[static_cast<size_t>(b)].has_value() == (b % n < n - 1);
    }
    if (fits) return n;
  }
  return std::nullopt;
}

/// What llama.cpp's code of Gemma does not read from a file.
void add_gemma_lacks(const model::ModelConfig& config, const io::GgufArchitecture& architecture,
                     std::vector<Lack>& lacks) {
  const auto in_all = [&](const char* what) {
    lacks.push_back({what, in_every_block(config, "self_attn")});
  };
  const double scale = gemma_scale(config, architecture);
  if (std::abs(config.attention_scale.value_or(scale) - scale) > 1e-6 * scale) {
    in_all("scores divided by another root than that of a head's size");
  }
  const bool second = config.model_type == "gemma2";
  if (second != config.attention_softcap.has_value()) {
    in_all(second ? "scores without a cap" : "capped scores");
  }
  if (second && !config.logit_softcap) lacks.push_back({"logits without a cap", {"lm_head"}});
  if (!window_pattern(config)) in_all("windows in no pattern");
  if (second && !config.tie_embeddings) lacks.push_back({"an output layer", {"lm_head"}});
  if (config.attention_bias) in_all("a bias");
}

void add_expert_lacks(const model::ModelConfig& config, const io::GgufArchitecture& architecture,
                      std::vector<Lack>& lacks) {
  const model::ExpertsConfig& experts = *config.experts;
  std::vector<std::string> single;
  for (int64_t b = 0; b < config.num_layers; ++b) {
    if (!config.mixes_experts(b)) single.push_back(model::block_prefix(b) + "mlp");
  }
  if (!single.empty()) lacks.push_back({"one MLP", single});
  if (experts.normalized != architecture.normalized_shares) {
    lacks.push_back({experts.normalized ? "shares of experts that add up to 1"
                                        : "shares of experts that do not add up to 1",
                     in_every_block(config, "mlp.gate")});
  }
}

std::vector<Lack> lacks_of(const model::ModelConfig& config,
                           const io::GgufArchitecture& architecture) {
  std::vector<Lack> lacks;
  const bool is_qwen = config.model_type.starts_with("qwen");
  const bool is_olmo = config.model_type == "olmo2";
  std::vector<std::string> windows;
  for (int64_t block = 0; block < config.num_layers; ++block) {
    if (config.windows[block]) windows.push_back(model::block_prefix(block) + "self_attn");
  }
  // Of Mistral and Phi all have one; llama.cpp reads it and attends to more.
  if (is_qwen && !windows.empty()) lacks.push_back({"a sliding window", windows});
  if ((is_qwen || is_olmo) && config.output_bias) {
    lacks.push_back({"a bias", in_every_block(config, "self_attn.o_proj")});
  }
  if (is_qwen && config.mlp_bias) {
    lacks.push_back({"a bias", in_every_block(config, "mlp.gate_proj")});
  }
  if (architecture.square_queries && config.q_features() != config.hidden_size) {
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
  if (config.model_type.starts_with("gemma")) add_gemma_lacks(config, architecture, lacks);
  if (config.experts) add_expert_lacks(config, architecture, lacks);
  if (architecture.own_head && config.tie_embeddings) {
    lacks.push_back({"no output layer beside the embedding", {"lm_head"}});
  }
  return lacks;
}

void add_rope(std::map<std::string, io::GgufValue>& keys, const std::string& prefix,
              const model::RopeConfig& rope) {
  keys[prefix + "rope.freq_base"] = {static_cast<float>(rope.theta)};
  if (rope.local_theta) {
    keys[prefix + "rope.freq_base_swa"] = {static_cast<float>(*rope.local_theta)};
  }
  if (rope.scaling == RopeScaling::kLongRope) {
    keys[prefix + "rope.scaling.original_context_length"] = {rope.original_max_positions};
    keys[prefix + "rope.scaling.attn_factor"] = {static_cast<float>(rope.attention_factor)};
  }
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

void add_family(std::map<std::string, io::GgufValue>& keys, const std::string& prefix,
                const model::ModelConfig& config) {
  const auto set = [&](const char* key, double value) {
    keys[prefix + key] = {static_cast<float>(value)};
  };
  if (config.model_type == "granite") {
    set("embedding_scale", config.embedding_scale);
    set("residual_scale", config.residual_scale);
    set("attention.scale", *config.attention_scale);
    set("logit_scale", 1 / config.logit_scale);
  }
  if (config.attention_softcap) set("attn_logit_softcapping", *config.attention_softcap);
  if (config.logit_softcap) set("final_logit_softcapping", *config.logit_softcap);
  if (config.model_type.starts_with("gemma")) {
    keys[prefix + "attention.sliding_window_pattern"] = {*window_pattern(config)};
  }
  if (!config.experts) return;
  keys[prefix + "expert_count"] = {config.experts->count};
  keys[prefix + "expert_used_count"] = {config.experts->active};
  if (config.model_type == "mixtral") return;
  keys[prefix + "expert_feed_forward_length"] = {config.experts->intermediate_size};
  if (config.experts->shared_size > 0) {
    keys[prefix + "expert_shared_feed_forward_length"] = {config.experts->shared_size};
  }
}

}  // namespace

const io::GgufArchitecture& gguf_architecture_of(const model::ModelConfig& config) {
  const io::GgufArchitecture* architecture = io::find_gguf_architecture(config.model_type);
  TORCH_CHECK_VALUE(architecture != nullptr, "[export] expected a model of type ",
                    io::known_gguf_model_types(), " for a GGUF file, got ", config.model_type);
  for (const Lack& lack : lacks_of(config, *architecture)) {
    TORCH_CHECK_VALUE(false, "[export] expected a model that llama.cpp's architecture ",
                      std::string(architecture->name), " computes, got ", lack.what, " in ",
                      named(lack.layers));
  }
  return *architecture;
}

io::GgufNames gguf_names_of(const io::Checkpoint& checkpoint, const model::ModelConfig& config) {
  return {gguf_architecture_of(config).names, checkpoint.config(),
          config.experts ? config.experts->count : 0};
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
  // Pruned MLPs are filled up to the largest of them.
  keys[prefix + "feed_forward_length"] = {config.experts ? config.intermediate_size
                                                         : std::ranges::max(config.mlp_sizes)};
  keys[prefix + "attention.head_count"] = {config.num_heads};
  keys[prefix + "attention.head_count_kv"] = {config.num_kv_heads};
  keys[prefix + "attention.key_length"] = {config.head_dim};
  keys[prefix + "attention.value_length"] = {config.head_dim};
  keys[prefix + "attention.layer_norm_rms_epsilon"] = {static_cast<float>(config.rms_norm_eps)};
  keys[prefix + "rope.dimension_count"] = {model::rotary_dim(config.rope, config.head_dim)};
  const auto window =
      std::ranges::find_if(config.windows, [](const auto& w) { return w.has_value(); });
  if (window != config.windows.end()) {
    keys[prefix + "attention.sliding_window"] = {**window};
  }
  add_rope(keys, prefix, config.rope);
  add_family(keys, prefix, config);
  return keys;
}

std::map<std::string, torch::Tensor> gguf_rope_factors(const model::ModelConfig& config) {
  const auto vector = [](const std::vector<double>& values) {
    return at::tensor(values, torch::kFloat64).to(torch::kFloat32);
  };
  const model::RopeConfig& rope = config.rope;
  if (rope.scaling == RopeScaling::kLongRope) {
    return {{std::string(io::kGgufLongFactors), vector(rope.long_factors)},
            {std::string(io::kGgufShortFactors), vector(rope.short_factors)}};
  }
  if (rope.scaling != RopeScaling::kLlama3) return {};
  model::RopeConfig plain = rope;
  plain.scaling = RopeScaling::kNone;
  return {
      {std::string(io::kGgufRopeFactors), model::rope_frequencies(plain, config.head_dim, 1) /
                                              model::rope_frequencies(rope, config.head_dim, 1)}};
}

bool is_exported_gguf(const std::filesystem::path& file) {
  try {
    return io::GgufFile::open_part(file).metadata().contains(kGgufMadeBy);
  } catch (const std::exception&) {  // whatever it is, it was not written here
    return false;
  }
}

}  // namespace schmidt::convert
