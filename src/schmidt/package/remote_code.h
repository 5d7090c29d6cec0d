#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

namespace schmidt::package {

/// Puts configuration_schmidt.py and modeling_schmidt.py into a checkpoint folder and
/// names them in its config's auto_map, so that transformers opens it with
/// trust_remote_code=True. Throws SystemError from the disk.
void add_remote_code(const std::filesystem::path& folder, nlohmann::json& config);

}  // namespace schmidt::package
