#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "schmidt/model/config.h"

namespace schmidt::model {

/// Whether a family's layers have a property: as its config says, or fixed by its code.
enum class Trait { kNever, kAlways, kConfigured };

/// Which layers see a sliding window only.
enum class WindowRule {
  kNone,          ///< none: the key `sliding_window` means nothing
  kAll,           ///< every layer, where `sliding_window` is a number
  kAllWhereUsed,  ///< every layer, where `use_sliding_window`
  kLayerTypes,    ///< where `use_sliding_window`: those that `layer_types` or
                  ///< `max_window_layers` names
  kPattern,       ///< those that `layer_types` names; without it all but every n-th, n being
                  ///< `sliding_window_pattern`
};

/// Defaults of a mixture's keys.
struct ExpertDefaults {
  ExpertNames names = ExpertNames::kQwen;
  int64_t count = 0;              ///< key `num_experts`, of Mixtral `num_local_experts`
  int64_t active = 0;             ///< key `num_experts_per_tok`
  int64_t intermediate_size = 0;  ///< key `moe_intermediate_size`; 0: the key `intermediate_size`
  int64_t shared_size = 0;        ///< key `shared_expert_intermediate_size`; 0: no such expert
};

/// What tells one model family from another. A new family of this kind is one line
/// of the table and one case of the parity test.
struct Family {
  std::string_view model_type;        ///< as config.json has it
  Trait qkv_bias = Trait::kNever;     ///< kConfigured: key `attention_bias`
  Trait output_bias = Trait::kNever;  ///< kConfigured: key `attention_bias`
  Trait mlp_bias = Trait::kNever;     ///< kConfigured: key `mlp_bias`
  QkNorm qk_norm = QkNorm::kNone;
  WindowRule window = WindowRule::kNone;
  int64_t default_window = 0;    ///< where the key `sliding_window` is absent; 0: none
  int64_t default_head_dim = 0;  ///< where the key `head_dim` is absent; 0: hidden / heads
  int64_t default_pattern = 0;   ///< kPattern: where `sliding_window_pattern` is absent
  NormPlacement norms = NormPlacement::kBefore;
  double norm_offset = 0.0;
  double default_eps = 1e-6;  ///< where the key `rms_norm_eps` is absent
  Activation activation = Activation::kSilu;
  bool tied_by_default = false;  ///< where the key `tie_word_embeddings` is absent
  /// Keys `embedding_multiplier`, `attention_multiplier`, `residual_multiplier` and
  /// `logits_scaling`, each 1 where it is absent.
  bool multipliers = false;
  bool scaled_embedding = false;  ///< embeddings are multiplied by sqrt(hidden_size)
  /// Of `query_pre_attn_scalar`, whose root divides scores, where it is absent; 0: no such key.
  int64_t default_query_scale = 0;
  /// Of `attn_logit_softcapping` and `final_logit_softcapping` where they are absent; 0: none.
  double default_attention_softcap = 0.0, default_logit_softcap = 0.0;
  bool softcaps = false;           ///< those keys count
  double default_theta = 10000.0;  ///< where `rope_theta` is absent
  /// Of the layers with a window, where they have a base of their own, `rope_local_base_freq`, and
  /// it is absent; 0: they have none.
  double default_local_theta = 0.0;
  bool partial_rotation = false;  ///< the key `partial_rotary_factor` may be less than 1
  bool long_rope = false;         ///< RoPE scaling of the type longrope, and that alone
  std::optional<ExpertDefaults> experts = {};  ///< MLPs are mixtures of experts
};

inline constexpr std::array<Family, 12> kFamilies = {{
    {.model_type = "llama",
     .qkv_bias = Trait::kConfigured,
     .output_bias = Trait::kConfigured,
     .mlp_bias = Trait::kConfigured},
    {.model_type = "mistral", .window = WindowRule::kAll, .default_window = 4096},
    {.model_type = "qwen2",
     .qkv_bias = Trait::kAlways,
     .window = WindowRule::kLayerTypes,
     .default_window = 4096},
    {.model_type = "qwen3",
     .qkv_bias = Trait::kConfigured,
     .output_bias = Trait::kConfigured,
     .qk_norm = QkNorm::kHeads,
     .window = WindowRule::kLayerTypes,
     .default_window = 4096,
     .default_head_dim = 128},
    {.model_type = "mixtral",
     .window = WindowRule::kAll,
     .default_eps = 1e-5,
     .default_theta = 1e6,
     .experts = ExpertDefaults{.names = ExpertNames::kMixtral, .count = 8, .active = 2}},
    {.model_type = "qwen2_moe",
     .qkv_bias = Trait::kAlways,
     .window = WindowRule::kLayerTypes,
     .default_window = 4096,
     .experts =
         ExpertDefaults{.count = 60, .active = 4, .intermediate_size = 1408, .shared_size = 5632}},
    {.model_type = "qwen3_moe",
     .qkv_bias = Trait::kConfigured,
     .output_bias = Trait::kConfigured,
     .qk_norm = QkNorm::kHeads,
     .window = WindowRule::kAllWhereUsed,
     .default_window = 4096,
     .experts = ExpertDefaults{.count = 128, .active = 8, .intermediate_size = 768}},
    {.model_type = "granite",
     .qkv_bias = Trait::kConfigured,
     .output_bias = Trait::kConfigured,
     .mlp_bias = Trait::kConfigured,
     .multipliers = true},
    {.model_type = "olmo2",
     .qkv_bias = Trait::kConfigured,
     .output_bias = Trait::kConfigured,
     .qk_norm = QkNorm::kWhole,
     .norms = NormPlacement::kAfter,
     .default_eps = 1e-5},
    {.model_type = "phi3",
     .window = WindowRule::kAll,
     .default_eps = 1e-5,
     .partial_rotation = true,
     .long_rope = true},
    {.model_type = "gemma2",
     .qkv_bias = Trait::kConfigured,
     .output_bias = Trait::kConfigured,
     .window = WindowRule::kPattern,
     .default_window = 4096,
     .default_head_dim = 256,
     .default_pattern = 2,
     .norms = NormPlacement::kBoth,
     .norm_offset = 1.0,
     .activation = Activation::kGeluTanh,
     .tied_by_default = true,
     .scaled_embedding = true,
     .default_query_scale = 256,
     .default_attention_softcap = 50.0,
     .default_logit_softcap = 30.0,
     .softcaps = true},
    {.model_type = "gemma3_text",
     .qkv_bias = Trait::kConfigured,
     .output_bias = Trait::kConfigured,
     .qk_norm = QkNorm::kHeads,
     .window = WindowRule::kPattern,
     .default_window = 4096,
     .default_head_dim = 256,
     .default_pattern = 6,
     .norms = NormPlacement::kBoth,
     .norm_offset = 1.0,
     .activation = Activation::kGeluTanh,
     .tied_by_default = true,
     .scaled_embedding = true,
     .default_query_scale = 256,
     .softcaps = true,
     .default_theta = 1e6,
     .default_local_theta = 10000.0},
}};

}  // namespace schmidt::model
