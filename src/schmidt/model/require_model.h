#pragma once

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// Refuses a checkpoint that lacks what its config.json describes, before work on it
/// begins: headers alone are read. Compressed layers, and values that are not finite,
/// are checked where they are read.
/// Throws FormatError for an unknown model type or a config that lies, and for a
/// tensor that is missing, has another shape or is not of a floating type.
void require_model(const io::Checkpoint& checkpoint);

/// Refuses a model whose config ties nothing and which has no output layer of its own.
/// Throws FormatError.
void require_output_layer(const ModelConfig& config, const Weights& weights);

}  // namespace schmidt::model
