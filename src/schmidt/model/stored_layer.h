#pragma once

#include <nlohmann/json.hpp>

#include "schmidt/model/layers.h"

namespace schmidt::model {

/// A layer and what config.json says of it under compression_config.layers.
struct StoredLayer {
  LayerSpec spec;
  nlohmann::json form;  ///< {"kind": "mpo", ...}; {"kind": "dense"} where nothing is said
};

}  // namespace schmidt::model
