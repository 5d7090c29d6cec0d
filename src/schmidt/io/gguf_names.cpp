#include "schmidt/io/gguf_names.h"

#include <charconv>

#include <fmt/format.h>

namespace schmidt::io {
namespace {

struct Name {
  std::string_view gguf;
  std::string_view hugging_face;
};

constexpr Name kGlobalNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Between "blk.N." or "model.layers.N." and ".weight" or ".bias".
constexpr Name kLayerNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

constexpr std::string_view kGgufBlocks = "blk.";
constexpr std::string_view kHuggingFaceBlocks = "model.layers.";

/// "blk." 3 ".attn_q" ".weight"; part and kind are empty where a name is not of that form.
struct InBlock {
  int block = 0;
  std::string_view part, kind;
};

InBlock in_block(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {};
  const std::string_view rest = name.substr(prefix.size());
  InBlock found;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), found.block);
  const std::string_view after = rest.substr(static_cast<size_t>(end - rest.data()));
  const size_t dot = after.rfind('.');
  if (error != std::errc() || found.block < 0 || !after.starts_with('.') || dot == 0) return {};
  const std::string_view kind = after.substr(dot + 1);
  if (kind != "weight" && kind != "bias") return {};
  found.part = after.substr(1, dot - 1);
  found.kind = kind;
  return found;
}

/// A name with its parts, which `from` has, as `to` has them.
std::optional<std::string> translate(std::string_view name, std::string_view Name::*from,
                                     std::string_view Name::*to, std::string_view from_blocks,
                                     std::string_view to_blocks) {
  for (const Name& global : kGlobalNames) {
    if (name == global.*from) return std::string(global.*to);
  }
  const InBlock found = in_block(name, from_blocks);
  for (const Name& layer : kLayerNames) {
    if (found.part != layer.*from) continue;
    return fmt::format("{}{}.{}.{}", to_blocks, found.block, layer.*to, found.kind);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> hugging_face_name(std::string_view gguf) {
  return translate(gguf, &Name::gguf, &Name::hugging_face, kGgufBlocks, kHuggingFaceBlocks);
}

std::optional<std::string> gguf_name(std::string_view hugging_face) {
  return translate(hugging_face, &Name::hugging_face, &Name::gguf, kHuggingFaceBlocks, kGgufBlocks);
}

std::string_view part_of_block(std::string_view gguf) { return in_block(gguf, kGgufBlocks).part; }

}  // namespace schmidt::io
