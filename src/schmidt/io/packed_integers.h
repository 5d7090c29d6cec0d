#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/io/scaled_tensor.h"

namespace schmidt::io {

/// The tensors of a folder whose weights are in integers of few bits, under the names of the
/// layers, or of parts of layers, that compression_config.layers describes. Moved out of `tensors`.
std::map<std::string, HfTensor> take_packed(std::map<std::string, HfTensor>& tensors,
                                            const nlohmann::json& config);

/// Says in compression_config.layers of `config` how packed weights of compressed-tensors are
/// stored, for those that are not there yet. Throws FormatError for a module that no scheme is for.
void describe_packed(nlohmann::json& config, const std::map<std::string, HfTensor>& tensors,
                     const std::vector<PackedScheme>& schemes, const std::filesystem::path& folder);

}  // namespace schmidt::io
