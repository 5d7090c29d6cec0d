#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/io/checkpoint.h"
#include "schmidt/io/json_record.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layers.h"

namespace schmidt::convert {

/// A layer, or several that read the same input and are stored as one, in another form than dense.
struct StoredGroup {
  model::LayerSpec layer;                 ///< as it is stored: "...self_attn.qkv_proj"
  std::vector<model::LayerSpec> members;  ///< its own where it is one layer
  nlohmann::json form;                    ///< its entry in compression_config.layers
};

/// Those that compression_config names, embedding and head among them. Throws as
/// model::check_compressed_names; `path` is for messages.
std::vector<StoredGroup> stored_groups(const model::ModelConfig& config,
                                       const std::filesystem::path& path);

/// Its form with its place in the model's config.json, for messages.
io::JsonRecord record_of(const StoredGroup& group, const std::filesystem::path& path);

/// Names of the tensors of its weight, biases left out.
std::vector<std::string> group_tensors(const io::Checkpoint& checkpoint, const StoredGroup& group);

}  // namespace schmidt::convert
