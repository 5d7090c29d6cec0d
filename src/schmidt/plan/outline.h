#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"
#include "schmidt/plan/layers.h"
#include "schmidt/plan/stored_specs.h"

namespace schmidt::plan {

/// A model as planning sees it: its shapes, whether or not its weights are at hand.
struct Outline {
  std::filesystem::path path;
  model::ModelConfig config;
  std::vector<Layer> layers;               ///< dense ones, in the model's order
  int64_t parameters = 0;                  ///< of the whole model, a tied embedding once
  std::optional<std::string> fingerprint;  ///< of the weights, where there are any
  std::vector<std::string> notes;          ///< of the checkpoint, for the user
  StoredTensors tensors;                   ///< as they are read, or the config's alone
};

Outline outline(const io::Checkpoint& checkpoint);

/// From a config alone; `path` is for messages. Throws FormatError for what it holds.
Outline outline(const nlohmann::json& config, const std::filesystem::path& path);

/// From a config.json, a folder that holds one with or without weights, or a .gguf
/// file, of which the hub's cache may be asked by an id. Throws c10::ValueError if there is none,
/// FormatError for what it holds.
Outline open_outline(const std::filesystem::path& name);

/// Parameters of a model that is all dense: embedding, head unless tied, layers with
/// their biases, norms.
int64_t parameter_count(const model::ModelConfig& config);

}  // namespace schmidt::plan
