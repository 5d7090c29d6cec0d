#pragma once

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// Refuses a checkpoint that does not hold the model that its config.json describes, before work
/// on it begins: what Model::load refuses, by headers alone. Values (weights that are not finite,
/// pivots out of their range) are checked where they are read.
/// Throws FormatError for an unknown model type or a config that lies, for a tensor that is
/// missing, has another shape or is not of a floating type, and for a compressed layer whose form
/// does not fit it.
void require_model(const io::Checkpoint& checkpoint);

/// Refuses a model whose config ties nothing and which has no output layer of its own.
/// Throws FormatError.
void require_output_layer(const ModelConfig& config, const Weights& weights);

}  // namespace schmidt::model
