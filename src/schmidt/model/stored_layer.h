#pragma once

#include <optional>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/model/form.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// A layer, or a group of them as one, and what config.json says of it under
/// compression_config.layers.
struct StoredLayer {
  LayerSpec spec;
  nlohmann::json form;  ///< {"kind": "mpo", ...}; {"kind": "dense"} where nothing is said
};

/// The reader of `layer.form`. Throws FormatError if it is no object.
Form form_of(const StoredLayer& layer, const Weights& weights);

/// NAME.bias [m], where the layer has one. Throws FormatError.
std::optional<torch::Tensor> load_bias(const LayerSpec& layer, const Weights& weights);

}  // namespace schmidt::model
