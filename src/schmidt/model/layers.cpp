#include "schmidt/model/layers.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <set>

#include "schmidt/base/format_error.h"

namespace schmidt::model {

std::string block_prefix(int64_t block) { return "model.layers." + std::to_string(block) + "."; }

std::vector<Group> block_groups(const ModelConfig& config, int64_t block) {
  std::vector<Group> groups = {Group::kQkv, Group::kOut};
  if (!config.mixes_experts(block)) {
    groups.insert(groups.end(), {Group::kGateUp, Group::kDown});
    return groups;
  }
  const int64_t experts = config.experts->count + (config.experts->shared_size > 0 ? 1 : 0);
  for (int64_t e = 0; e < experts; ++e) {
    groups.insert(groups.end(), {Group(Group::kGateUp, e), Group(Group::kDown, e)});
  }
  return groups;
}

std::vector<RouterSpec> block_routers(const ModelConfig& config, int64_t block) {
  if (!config.mixes_experts(block)) return {};
  const ExpertsConfig& experts = *config.experts;
  const bool mixtral = experts.names == ExpertNames::kMixtral;
  const std::string prefix = block_prefix(block);
  std::vector<RouterSpec> routers = {
      {prefix + (mixtral ? "block_sparse_moe.gate" : "mlp.gate"), experts.count}};
  if (experts.shared_size > 0) routers.push_back({prefix + "mlp.shared_expert_gate", 1});
  return routers;
}

namespace {

/// An MLP: a block's, or an expert's.
struct Mlp {
  std::string gate, up, down;
  int64_t size;
};

Mlp mlp_of(const ModelConfig& c, int64_t block, const std::optional<int64_t>& expert) {
  std::string prefix = block_prefix(block) + "mlp.";
  int64_t size = c.mlp_sizes[static_cast<size_t>(block)];
  if (expert && *expert == c.experts->count) {
    prefix += "shared_expert.";
    size = c.experts->shared_size;
  } else if (expert) {
    size = c.experts->intermediate_size;
    const std::string number = "experts." + std::to_string(*expert) + ".";
    if (c.experts->names == ExpertNames::kMixtral) {
      prefix = block_prefix(block) + "block_sparse_moe." + number;
      return {prefix + "w1", prefix + "w3", prefix + "w2", size};
    }
    prefix += number;
  }
  return {prefix + "gate_proj", prefix + "up_proj", prefix + "down_proj", size};
}

/// From 1 on, by the name of one of its modules; behind them the one that every token takes. 0 of a
/// module of no expert.
size_t expert_of(std::string_view module) {
  constexpr std::string_view kExperts = ".experts.", kShared = ".shared_expert.";
  if (module.find(kShared) != std::string_view::npos) return size_t{1} << 32;
  const size_t at = module.find(kExperts);
  if (at == std::string_view::npos) return 0;
  const std::string number(module.substr(at + kExperts.size()));
  return 1 + std::strtoul(number.c_str(), nullptr, 10);
}

}  // namespace

std::vector<LayerSpec> group_layers(const ModelConfig& c, int64_t block, Group group) {
  const std::string attention = block_prefix(block) + "self_attn.";
  const Mlp mlp = mlp_of(c, block, group.expert);
  switch (group.kind) {
    case Group::kQkv:
      return {{attention + "q_proj", c.q_features(), c.hidden_size, c.attention_bias},
              {attention + "k_proj", c.kv_features(), c.hidden_size, c.attention_bias},
              {attention + "v_proj", c.kv_features(), c.hidden_size, c.attention_bias}};
    case Group::kOut:
      return {{attention + "o_proj", c.hidden_size, c.q_features(), c.output_bias}};
    case Group::kGateUp:
      return {{mlp.gate, mlp.size, c.hidden_size, c.mlp_bias},
              {mlp.up, mlp.size, c.hidden_size, c.mlp_bias}};
    case Group::kDown:
      return {{mlp.down, c.hidden_size, mlp.size, c.mlp_bias}};
  }
  TORCH_INTERNAL_ASSERT(false, "unknown group of layers");
}

std::vector<NormSpec> block_norms(const ModelConfig& c, int64_t block) {
  const std::string prefix = block_prefix(block);
  const bool before = c.norms != NormPlacement::kAfter;
  const bool after = c.norms != NormPlacement::kBefore;
  std::vector<NormSpec> norms;
  const auto add = [&](bool there, Norm norm, const char* name, int64_t size) {
    if (there) norms.push_back({norm, prefix + name, size});
  };
  const bool whole = c.qk_norm == QkNorm::kWhole;
  const bool of_heads = c.qk_norm != QkNorm::kNone;
  add(before, Norm::kQkvInput, "input_layernorm", c.hidden_size);
  add(of_heads, Norm::kQ, "self_attn.q_norm", whole ? c.q_features() : c.head_dim);
  add(of_heads, Norm::kK, "self_attn.k_norm", whole ? c.kv_features() : c.head_dim);
  add(after, Norm::kOutOutput, "post_attention_layernorm", c.hidden_size);
  // Families with one norm for each half name that of the second by where it stands.
  add(before, Norm::kGateUpInput, after ? "pre_feedforward_layernorm" : "post_attention_layernorm",
      c.hidden_size);
  add(after, Norm::kDownOutput, "post_feedforward_layernorm", c.hidden_size);
  return norms;
}

std::optional<LayerSpec> fused_layer(std::span<const LayerSpec> members) {
  struct Fusion {
    std::string_view first, name;
  };
  static constexpr Fusion kFusions[] = {
      {".q_proj", ".qkv_proj"}, {".gate_proj", ".gate_up_proj"}, {".w1", ".w1_w3"}};
  if (members.size() < 2) return std::nullopt;
  LayerSpec fused = members.front();
  for (const LayerSpec& other : members.subspan(1)) fused.out_features += other.out_features;
  for (const auto& [first, name] : kFusions) {
    if (!fused.name.ends_with(first)) continue;
    fused.name.replace(fused.name.size() - first.size(), first.size(), name);
    return fused;
  }
  TORCH_INTERNAL_ASSERT(false, "no name for the group that begins with ", fused.name);
}

size_t place_in_block(std::string_view module) {
  static constexpr std::string_view kModules[] = {"input_layernorm",
                                                  "qkv_proj",
                                                  "q_proj",
                                                  "k_proj",
                                                  "v_proj",
                                                  "q_norm",
                                                  "k_norm",
                                                  "o_proj",
                                                  "post_attention_layernorm",
                                                  "gate",
                                                  "gate_up_proj",
                                                  "gate_proj",
                                                  "up_proj",
                                                  "down_proj",
                                                  "w1_w3",
                                                  "w1",
                                                  "w3",
                                                  "w2"};
  const auto* const found =
      std::ranges::find_if(kModules, [&](std::string_view m) { return module.ends_with(m); });
  const auto place = static_cast<size_t>(found - std::begin(kModules));
  return place + expert_of(module) * (std::size(kModules) + 1);
}

std::vector<LayerSpec> block_layers(const ModelConfig& config) {
  std::vector<LayerSpec> layers;
  for (int64_t block = 0; block < config.num_layers; ++block) {
    for (const Group group : block_groups(config, block)) {
      for (LayerSpec& layer : group_layers(config, block, group)) {
        layers.push_back(std::move(layer));
      }
    }
  }
  return layers;
}

LayerSpec embedding_layer(const ModelConfig& config) {
  return {"model.embed_tokens", config.vocab_size, config.hidden_size, false};
}

LayerSpec output_layer(const ModelConfig& config) {
  return {"lm_head", config.vocab_size, config.hidden_size, false};
}

std::vector<StorableLayer> storable_layers(const ModelConfig& config) {
  std::vector<StorableLayer> all;
  for (const LayerSpec& layer : {embedding_layer(config), output_layer(config)}) {
    all.push_back({layer, {layer}});
  }
  for (int64_t block = 0; block < config.num_layers; ++block) {
    for (const Group group : block_groups(config, block)) {
      const std::vector<LayerSpec> members = group_layers(config, block, group);
      for (const LayerSpec& member : members) all.push_back({member, {member}});
      if (const auto fused = fused_layer(members)) all.push_back({*fused, members});
    }
  }
  return all;
}

void check_compressed_names(const ModelConfig& config, const std::filesystem::path& path) {
  const nlohmann::json& named = config.compressed_layers;
  const auto refuse = [&](const std::string& name, const std::string& reason) {
    throw FormatError(path, "compression_config.layers." + name, reason);
  };
  std::set<std::string> known;
  for (const auto& [layer, members] : storable_layers(config)) {
    known.insert(layer.name);
    if (members.size() == 1 || !named.contains(layer.name)) continue;
    for (const LayerSpec& member : members) {
      if (!named.contains(member.name)) continue;
      refuse(member.name, "expected no entry of its own beside " + layer.name + ", found one");
    }
  }
  for (const auto& [name, form] : named.items()) {
    if (known.contains(name)) continue;
    refuse(name, "expected a linear layer of the model, found no such layer");
  }
}

bool has_tied_head(const ModelConfig& config) {
  return config.tie_embeddings && !config.compressed_layers.contains(output_layer(config).name);
}

}  // namespace schmidt::model
