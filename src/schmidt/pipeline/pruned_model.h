#pragma once

#include <filesystem>
#include <optional>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/pipeline/compress_recipe.h"

namespace schmidt::pipeline {

// The model that a pruning leaves beside OUT while what is left of it is compressed.

/// Of the log in its config.json: "prune", of what and for what. To be completed by "layers" whose
/// neurons it lost, and "predicted_loss".
nlohmann::json pruning_log(const io::Checkpoint& model, const CompressRecipe& recipe,
                           const torch::Tensor& windows);

/// The completed log of an earlier run's pruning for the same, where it has left its model there.
/// Throws c10::ValueError where something else lies there; with `force` whatever lies there is
/// dropped.
std::optional<nlohmann::json> pruned_already(const std::filesystem::path& pruned,
                                             const nlohmann::json& log, bool force);

/// Removes it; as long as the folder has its name it is whole, whenever a run is killed.
void drop_pruned(const std::filesystem::path& pruned);

}  // namespace schmidt::pipeline
