#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

namespace schmidt::io {

/// Whether compression_config.layers of `config` has a form for the layer.
bool is_described(const nlohmann::json& config, const std::string& layer);

/// Says there how weights are stored that another tool has written. Throws FormatError where
/// compression_config or its layers are no objects.
void describe_layer(nlohmann::json& config, const std::string& layer, nlohmann::json form,
                    const std::filesystem::path& folder);

}  // namespace schmidt::io
