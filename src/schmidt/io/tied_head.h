#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "schmidt/io/scaled_tensor.h"

namespace schmidt::io {

/// Makes one model of a folder whose config says tie_word_embeddings, or is of a family that leaves
/// the key out where it is true, while lm_head.weight is stored too. A head of the embedding's
/// bytes is left out. Any other head is the one that was trained: it stays, and `config` says then
/// that nothing is tied. An embedding stored under the head's name alone gets its own. A compressed
/// head is stored as compression_config says and stays as it is. Returns what was done, for the
/// user; nullopt where there was nothing to decide.
std::optional<std::string> settle_tied_head(nlohmann::json& config,
                                            std::map<std::string, HfTensor>& tensors);

}  // namespace schmidt::io
