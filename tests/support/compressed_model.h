#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "schmidt/model/network.h"

#include "tests/support/tiny_model.h"

namespace schmidt::test {

/// The tiny model twice: once with layers in every form that a checkpoint may hold,
/// once with the matrices that they stand for. With biases everywhere.
struct CompressedModel {
  TinyModel compressed;
  TinyModel dense;

  /// The entry of a layer in compression_config.layers.
  nlohmann::json& form(const std::string& layer);
};

inline constexpr const char* kFusedQkv = "model.layers.0.self_attn.qkv_proj";   // low rank, fixed
inline constexpr const char* kFixedOut = "model.layers.0.self_attn.o_proj";     // 3 sites, fixed
inline constexpr const char* kFusedGateUp = "model.layers.0.mlp.gate_up_proj";  // 2 sites
inline constexpr const char* kFixedKey = "model.layers.1.self_attn.k_proj";     // low rank, fixed
inline constexpr const char* kSumGateUp = "model.layers.1.mlp.gate_up_proj";  // 2 sites + low rank
inline constexpr const char* kSumDown = "model.layers.1.mlp.down_proj";       // both terms fixed

CompressedModel make_compressed_model();

/// A random network in the given sites, its gauge free.
tn::Mpo random_network(const tn::SiteShape& shape, const std::vector<int64_t>& bonds);

}  // namespace schmidt::test
