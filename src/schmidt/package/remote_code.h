#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

namespace schmidt::package {

/// Puts the files of python/huggingface into a checkpoint folder and names them in its
/// config's auto_map, so that transformers (4.46 or newer) opens it with
/// trust_remote_code=True. Throws SystemError from the disk.
void add_remote_code(const std::filesystem::path& folder, nlohmann::json& config);

}  // namespace schmidt::package
