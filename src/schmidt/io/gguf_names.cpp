#include "schmidt/io/gguf_names.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include <fmt/format.h>

namespace schmidt::io {
namespace {

constexpr GgufName kGlobalNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Between "blk.N." or "model.layers.N." and ".weight" or ".bias".
constexpr GgufName kLayerNames[] = {
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
std::optional<std::string> translate(std::string_view name, std::span<const GgufName> own,
                                     std::string_view GgufName::*from,
                                     std::string_view GgufName::*to, std::string_view from_blocks,
                                     std::string_view to_blocks) {
  for (const GgufName& global : kGlobalNames) {
    if (name == global.*from) return std::string(global.*to);
  }
  const InBlock found = in_block(name, from_blocks);
  for (const std::span<const GgufName> names : {own, std::span<const GgufName>(kLayerNames)}) {
    const auto layer = std::ranges::find(names, found.part, from);
    if (layer == names.end()) continue;
    return fmt::format("{}{}.{}.{}", to_blocks, found.block, (*layer).*to, found.kind);
  }
  return std::nullopt;
}

/// Where the number of an expert stands in a tensor's name; empty where it has none.
std::string_view expert_number(std::string_view name) {
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = name.find(kExperts);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = name.substr(at + kExperts.size());
  return rest.substr(0, rest.find('.'));
}

std::string with(std::string_view name, std::string_view part, std::string_view in_its_place) {
  const auto begin = static_cast<size_t>(part.data() - name.data());
  return fmt::format("{}{}{}", name.substr(0, begin), in_its_place,
                     name.substr(begin + part.size()));
}

/// "gate_proj" of "model.layers.0.mlp.gate_proj.weight".
std::string_view leaf_of(std::string_view name) {
  const std::string_view layer = name.substr(0, name.rfind('.'));
  const size_t dot = layer.rfind('.');
  return dot == std::string_view::npos ? layer : layer.substr(dot + 1);
}

}  // namespace

GgufNames::GgufNames(std::span<const GgufName> own, const nlohmann::json& config, int64_t experts)
    : own_(own), modules_(fused_modules(config)), experts_(experts) {}

const FusedModule* GgufNames::fused(std::string_view hugging_face) const {
  const auto found = std::ranges::find(modules_, leaf_of(hugging_face), &FusedModule::name);
  return found == modules_.end() ? nullptr : &*found;
}

std::vector<std::string> GgufNames::of_model(std::string_view gguf) const {
  const auto name = translate(gguf, own_, &GgufName::gguf, &GgufName::hugging_face, kGgufBlocks,
                              kHuggingFaceBlocks);
  if (!name) return {};
  std::vector<std::string> names;
  if (const std::string_view number = expert_number(*name); number == "{}") {
    for (int64_t e = 0; e < experts_; ++e) names.push_back(with(*name, number, std::to_string(e)));
  } else if (const FusedModule* module = fused(*name)) {
    for (const auto& member : module->members) {
      names.push_back(with(*name, leaf_of(*name), member.name));
    }
  } else {
    names.push_back(*name);
  }
  return names;
}

std::optional<std::string> GgufNames::of_file(std::string_view hugging_face) const {
  std::string name(hugging_face);
  if (const std::string_view number = expert_number(hugging_face); !number.empty()) {
    name = with(hugging_face, number, "{}");
  }
  for (const FusedModule& module : modules_) {
    const std::string_view leaf = leaf_of(hugging_face);
    const auto member = std::ranges::find(module.members, leaf, &FusedModule::Member::name);
    if (member != module.members.end()) name = with(hugging_face, leaf, module.name);
  }
  return translate(name, own_, &GgufName::hugging_face, &GgufName::gguf, kHuggingFaceBlocks,
                   kGgufBlocks);
}

std::vector<int64_t> GgufNames::row_shares(std::string_view gguf) const {
  const auto name = translate(gguf, own_, &GgufName::gguf, &GgufName::hugging_face, kGgufBlocks,
                              kHuggingFaceBlocks);
  const FusedModule* module = name ? fused(*name) : nullptr;
  std::vector<int64_t> shares;
  if (module == nullptr) return shares;
  for (const auto& member : module->members) shares.push_back(member.share);
  return shares;
}

std::string_view part_of_block(std::string_view gguf) { return in_block(gguf, kGgufBlocks).part; }

std::optional<int64_t> number_of_block(std::string_view gguf) {
  const InBlock found = in_block(gguf, kGgufBlocks);
  return found.part.empty() ? std::nullopt : std::optional<int64_t>(found.block);
}

}  // namespace schmidt::io
