#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace schmidt::model {

/// Whether a family's layers have a property: as its config says, or fixed by its code.
enum class Trait { kNever, kAlways, kConfigured };

/// Which layers see a sliding window only.
enum class WindowRule {
  kNone,        ///< none: the key `sliding_window` means nothing
  kAll,         ///< every layer, where `sliding_window` is a number
  kLayerTypes,  ///< where `use_sliding_window`: those that `layer_types` or
                ///< `max_window_layers` names
};

/// What tells one model family from another. A new family of this kind is one line
/// of the table and one case of the parity test.
struct Family {
  std::string_view model_type;  ///< as config.json has it
  Trait qkv_bias;               ///< kConfigured: key `attention_bias`
  Trait output_bias;            ///< kConfigured: key `attention_bias`
  Trait mlp_bias;               ///< kConfigured: key `mlp_bias`
  Trait qk_norm;
  WindowRule window;
  int64_t default_window;    ///< where the key `sliding_window` is absent; 0: none
  int64_t default_head_dim;  ///< where the key `head_dim` is absent; 0: hidden / heads
};

inline constexpr std::array<Family, 4> kFamilies = {{
    {"llama", Trait::kConfigured, Trait::kConfigured, Trait::kConfigured, Trait::kNever,
     WindowRule::kNone, 0, 0},
    {"mistral", Trait::kNever, Trait::kNever, Trait::kNever, Trait::kNever,  //
     WindowRule::kAll, 4096, 0},
    {"qwen2", Trait::kAlways, Trait::kNever, Trait::kNever, Trait::kNever, WindowRule::kLayerTypes,
     4096, 0},
    {"qwen3", Trait::kConfigured, Trait::kConfigured, Trait::kNever, Trait::kAlways,
     WindowRule::kLayerTypes, 4096, 128},
}};

}  // namespace schmidt::model
