#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

#include "schmidt/io/checkpoint.h"
#include "schmidt/package/summary.h"

namespace schmidt::package {

/// Completes a checkpoint folder that holds its weights: config.json from `config`,
/// generation_config.json and the tokenizer of `original` unless they are links that lead
/// out of its folder, the files that transformers opens it by, and a model card. A config without
/// compression_config is one that transformers knows by itself. Returns what the folder now holds.
/// Throws FormatError if config and weights do not fit, SystemError from the disk.
ModelSummary write_beside_weights(const io::Checkpoint& original, nlohmann::json config,
                                  const std::filesystem::path& folder);

}  // namespace schmidt::package
