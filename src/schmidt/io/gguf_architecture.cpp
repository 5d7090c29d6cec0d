#include "schmidt/io/gguf_architecture.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {
namespace {

constexpr GgufName kNormsAfter[] = {
    {"post_attention_norm", "post_attention_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
};
constexpr GgufName kNormsOnBothSides[] = {
    {"post_attention_norm", "post_attention_layernorm"},
    {"ffn_norm", "pre_feedforward_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
};
constexpr GgufName kFused[] = {
    {"attn_qkv", "self_attn.qkv_proj"},
    {"ffn_up", "mlp.gate_up_proj"},
};
constexpr GgufName kMixtralExperts[] = {
    {"ffn_gate_inp", "block_sparse_moe.gate"},
    {"ffn_gate_exps", "block_sparse_moe.experts.{}.w1"},
    {"ffn_up_exps", "block_sparse_moe.experts.{}.w3"},
    {"ffn_down_exps", "block_sparse_moe.experts.{}.w2"},
};
constexpr GgufName kQwenExperts[] = {
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
    {"ffn_up_exps", "mlp.experts.{}.up_proj"},
    {"ffn_down_exps", "mlp.experts.{}.down_proj"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
};

constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama",
     .model_type = "llama",
     .model_class = "LlamaForCausalLM",
     .interleaved_qk = true},
    {.name = "llama",
     .model_type = "mixtral",
     .model_class = "MixtralForCausalLM",
     .interleaved_qk = true,
     .experts = true,
     .names = kMixtralExperts},
    {.name = "qwen2",
     .model_type = "qwen2",
     .model_class = "Qwen2ForCausalLM",
     .square_queries = true},
    {.name = "qwen3", .model_type = "qwen3", .model_class = "Qwen3ForCausalLM"},
    {.name = "qwen2moe",
     .model_type = "qwen2_moe",
     .model_class = "Qwen2MoeForCausalLM",
     .experts = true,
     .normalized_shares = false,
     .own_head = true,
     .square_queries = true,
     .names = kQwenExperts},
    {.name = "qwen3moe",
     .model_type = "qwen3_moe",
     .model_class = "Qwen3MoeForCausalLM",
     .experts = true,
     .names = kQwenExperts},
    {.name = "granite",
     .model_type = "granite",
     .model_class = "GraniteForCausalLM",
     .interleaved_qk = true},
    {.name = "olmo2",
     .model_type = "olmo2",
     .model_class = "Olmo2ForCausalLM",
     .own_head = true,
     .square_queries = true,
     .names = kNormsAfter},
    {.name = "phi3",
     .model_type = "phi3",
     .model_class = "Phi3ForCausalLM",
     .square_queries = true,
     .names = kFused},
    {.name = "gemma2",
     .model_type = "gemma2",
     .model_class = "Gemma2ForCausalLM",
     .norm_offset = 1.0,
     .wide_scale_blocks = 46,
     .names = kNormsOnBothSides},
    {.name = "gemma3",
     .model_type = "gemma3_text",
     .model_class = "Gemma3ForCausalLM",
     .norm_offset = 1.0,
     .wide_scale_blocks = 62,
     .names = kNormsOnBothSides},
};
constexpr GgufArchitecture kMistral{.name = "llama",
                                    .model_type = "mistral",
                                    .model_class = "MistralForCausalLM",
                                    .interleaved_qk = true};

}  // namespace

bool GgufArchitecture::is_shifted(std::string_view gguf) const {
  return norm_offset != 0.0 && gguf.ends_with("norm.weight");
}

const GgufArchitecture& gguf_architecture(const GgufFile& file) {
  const auto name = file.get_string("general.architecture");
  if (!name) {
    throw FormatError(file.path(), "metadata general.architecture", "expected a value, found none");
  }
  const bool experts = file.get_int(*name + ".expert_count").value_or(0) > 0;
  std::string known;
  for (const GgufArchitecture& a : kArchitectures) {
    if (a.name != *name) {
      if (known.find(a.name) == std::string::npos) {
        known += (known.empty() ? "" : ", ") + std::string(a.name);
      }
      continue;
    }
    if (a.experts != experts) continue;
    const bool slides = file.get_int(*name + ".attention.sliding_window").value_or(0) > 0;
    return a.model_type == "llama" && slides ? kMistral : a;
  }
  const bool other =
      std::ranges::find(kArchitectures, *name, &GgufArchitecture::name) != std::end(kArchitectures);
  if (other) {
    throw FormatError(file.path(), "metadata " + *name + ".expert_count",
                      experts ? "expected none, as this architecture has one MLP in each block"
                              : "expected the number of experts, found none");
  }
  throw FormatError(file.path(), "metadata general.architecture",
                    fmt::format("expected one of {}, found {}", known, name->substr(0, 40)));
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

}  // namespace schmidt::io
