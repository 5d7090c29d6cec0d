#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "schmidt/model/layer_kind.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// Every kind that a checkpoint may name.
std::vector<const LayerKind*> layer_kinds();

/// Adds a kind from outside the library; `kind` has to outlive its use. Not safe beside
/// threads that load. Throws c10::ValueError if there is one of that name.
void add_layer_kind(const LayerKind& kind);

/// Loads the layers of one group, as the config says they are stored: all as one
/// under the fused layer's name, or each by itself.
/// Throws FormatError naming the layer or tensor, what was expected and found.
ProjectionPtr load_group(std::span<const LayerSpec> layers, const ModelConfig& config,
                         const Weights& weights);

/// One layer, as its form says; throws as load_group.
ProjectionPtr load_layer(const StoredLayer& layer, const Weights& weights);

// What the kinds do, for the kind that the form names. All throw FormatError, naming
// `path`, if there is no such kind.

/// `tensors`: of this layer, or of the whole checkpoint.
WeightDescription describe_weight(const std::string& name, const nlohmann::json& form,
                                  const TensorHeaders& tensors, const std::filesystem::path& path);
WeightDescription describe_weight(const std::string& name, const io::JsonRecord& form,
                                  const TensorHeaders& tensors);
WeightDescription describe_weight(const std::string& name, const StoredWeight& weight);

StoredWeight pack_weight(const std::string& name, const StoredWeight& weight,
                         const PackOptions& options);

/// W [m, n] in float32, in float64 where its floating tensors are. Allocates it.
torch::Tensor unfold_weight(const LayerSpec& layer, const StoredWeight& weight);

}  // namespace schmidt::model
