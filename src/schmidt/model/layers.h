#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/model/config.h"

namespace schmidt::model {

/// One linear map y = x W^T + b under its name in a checkpoint.
struct LayerSpec {
  std::string name;  ///< "model.layers.0.self_attn.q_proj"
  int64_t out_features = 0;
  int64_t in_features = 0;
  bool bias = false;
};

/// Linear maps of a decoder block that share their input: q, k, v; o; gate, up; down. In a mixture
/// of experts each of these has a gate, up and a down of its own.
struct Group {
  enum Kind { kQkv, kOut, kGateUp, kDown };

  // NOLINTNEXTLINE(google-explicit-constructor): the groups of a block with one MLP are kinds
  constexpr Group(Kind its_kind, std::optional<int64_t> its_expert = std::nullopt)
      : kind(its_kind), expert(its_expert) {}

  friend auto operator<=>(const Group&, const Group&) = default;

  Kind kind;
  std::optional<int64_t> expert;  ///< of a mixture; the one that every token takes is the last
};

/// The groups of a block in the order of the computation, expert by expert.
std::vector<Group> block_groups(const ModelConfig& config, int64_t block);

/// Whether a group reads the residual stream, normed; otherwise what the group before it gave.
constexpr bool reads_residual(Group group) {
  return group.kind == Group::kQkv || group.kind == Group::kGateUp;
}
/// Whether the residual stream grows by a group's outputs.
constexpr bool adds_to_residual(Group group) {
  return group.kind == Group::kOut || group.kind == Group::kDown;
}

/// The norms of a decoder block, each in front of a group, over q or k, or over what a group adds
/// to the residual stream.
enum class Norm { kQkvInput, kQ, kK, kOutOutput, kGateUpInput, kDownOutput };
inline constexpr size_t kNorms = 6;

/// An RMSNorm of a block.
struct NormSpec {
  Norm norm;
  std::string name;  ///< "model.layers.0.input_layernorm", of the tensor NAME.weight
  int64_t size = 0;
};

/// Those that the blocks of the model have, in the order of the computation.
std::vector<NormSpec> block_norms(const ModelConfig& config, int64_t block);

/// "model.layers.3."
std::string block_prefix(int64_t block);

/// The layers of one group, in the order in which their outputs are stacked:
/// q, k, v; o; gate, up; down, of Mixtral's experts w1, w3; w2.
std::vector<LayerSpec> group_layers(const ModelConfig& config, int64_t block, Group group);

/// How many layers a group has.
constexpr size_t members_of(Group group) {
  return group.kind == Group::kQkv ? 3 : group.kind == Group::kGateUp ? 2 : 1;
}

/// A router of a mixture: its products with a token's state say how much of which experts the
/// token takes.
struct RouterSpec {
  std::string name;     ///< "model.layers.0.mlp.gate", of the tensor NAME.weight [experts, hidden]
  int64_t experts = 0;  ///< that it knows; 1 of the one that every token takes
};

/// Those of a block: none, that of the experts, or that and the one of the expert that every token
/// takes.
std::vector<RouterSpec> block_routers(const ModelConfig& config, int64_t block);

/// The layers of a group as one whose outputs are theirs, stacked:
/// "model.layers.3.self_attn.qkv_proj" and "model.layers.3.mlp.gate_up_proj". None for
/// a group of a single layer.
std::optional<LayerSpec> fused_layer(std::span<const LayerSpec> members);

/// Where a module of a block stands in the order of the computation, by the end of its name
/// ("...self_attn.q_proj"), norms and layers held as one included; behind all others if it is none.
size_t place_in_block(std::string_view module);

/// Every linear layer of the model's blocks, in the model's order.
std::vector<LayerSpec> block_layers(const ModelConfig& config);

/// The embedding, whose rows are the tokens' vectors: a layer like the others, which a checkpoint
/// may hold in any kind.
LayerSpec embedding_layer(const ModelConfig& config);

/// The map from hidden states to logits, where it is not the tied embedding.
LayerSpec output_layer(const ModelConfig& config);

/// What a checkpoint may hold in a form of its own: a layer, or a group of layers as one.
struct StorableLayer {
  LayerSpec layer;
  std::vector<LayerSpec> members;  ///< those of a group; `layer` itself where it is one layer
};

/// All of a model: embedding and head, and of each block the layers and the groups of several.
std::vector<StorableLayer> storable_layers(const ModelConfig& config);

/// Throws FormatError where compression_config names what is none of them, or a member beside its
/// group: one of the two would silently win. `path` is for messages.
void check_compressed_names(const ModelConfig& config, const std::filesystem::path& path);

/// Whether the embedding maps hidden states to logits. A compressed output layer counts
/// before what the config says of ties.
bool has_tied_head(const ModelConfig& config);

}  // namespace schmidt::model
