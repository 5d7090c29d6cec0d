#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace schmidt::io {

/// What llama.cpp divides the rotary frequencies by, float32 [head_dim / 2]: no weight, so that it
/// has no name in a Hugging Face model.
inline constexpr std::string_view kGgufRopeFactors = "rope_freqs.weight";

// Names of the tensors of a dense model of the Llama family, there and back:
// "blk.3.attn_q.weight" and "model.layers.3.self_attn.q_proj.weight". None for other names.

std::optional<std::string> hugging_face_name(std::string_view gguf);
std::optional<std::string> gguf_name(std::string_view hugging_face);

/// "attn_q" of "blk.3.attn_q.weight"; empty for what lies in no block.
std::string_view part_of_block(std::string_view gguf);

}  // namespace schmidt::io
