#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/pipeline/calibration_text.h"
#include "schmidt/pipeline/compress_recipe.h"
#include "schmidt/plan/layers.h"

namespace schmidt::pipeline {

/// Every dense weight of a model in integers of few bits.
struct QuantizeRecipe {
  int bits = 4;                                     ///< one of quant::kIntegerWidths
  int64_t group = 64;                               ///< columns that share a scale; 0: a row
  bool symmetric = false;                           ///< without zero points
  std::string method = {};                          ///< empty: nearest with 8 bits, learned below
  std::optional<int> vocabulary_bits;               ///< of embedding and head; none: as they are
  plan::LayerSelection selection = {{}, {"none"}};  ///< of the blocks' layers
  compress::MethodOptions fit;
  CalibrationText text;
};

/// The compression that quantizing a model is; compress_model checks that it can be done. Throws
/// c10::ValueError for a model without dense layers and for patterns that match none.
CompressRecipe compress_recipe(const QuantizeRecipe& recipe, const io::Checkpoint& model);

}  // namespace schmidt::pipeline
