#pragma once

#include <span>
#include <string_view>

#include "schmidt/model/layers.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// Makes one projection of neighbours of one group that have the same kind, so
/// that a kind may hold them together. Throws FormatError if forms or tensors do
/// not fit the layers.
using LayerLoader = ProjectionPtr (*)(std::span<const StoredLayer> layers, const Weights& weights);

/// A form in which a layer's weight may be stored. A new kind is one file pair with
/// a loader and one line of the table.
struct LayerKind {
  std::string_view name;  ///< the value of "kind"
  LayerLoader load;
};

std::span<const LayerKind> layer_kinds();

/// Loads the layers of one group, as the config says they are stored: all as one
/// under the fused layer's name, or each by itself.
/// Throws FormatError naming the layer or tensor, what was expected and found.
ProjectionPtr load_group(std::span<const LayerSpec> layers, const ModelConfig& config,
                         const Weights& weights);

}  // namespace schmidt::model
