#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/json_record.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/named_tensor.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// A layer, or a group of them as one, and what config.json says of it under
/// compression_config.layers.
struct StoredLayer {
  LayerSpec spec;
  nlohmann::json form;  ///< {"kind": "mpo", ...}; {"kind": "dense"} where nothing is said
};

/// The weight of a layer [m, n] as a checkpoint may hold it. Biases are no part of it.
struct StoredWeight {
  nlohmann::json form;               ///< its entry in compression_config.layers
  std::vector<NamedTensor> tensors;  ///< under their full names
};

/// The tensor of that name, or null.
const NamedTensor* find_tensor(const StoredWeight& weight, const std::string& name);

/// Floating tensors in `dtype`, contiguous; indices and codes as they are.
std::vector<NamedTensor> in_dtype(std::vector<NamedTensor> tensors, torch::ScalarType dtype);

/// The reader of `layer.form`. Throws FormatError if it is no object.
io::JsonRecord form_of(const StoredLayer& layer, const Weights& weights);

/// NAME.bias [m], where the layer has one. Throws FormatError.
std::optional<torch::Tensor> load_bias(const LayerSpec& layer, const Weights& weights);

}  // namespace schmidt::model
