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

/// Every dense weight of a model in integers of few bits, or those of the blocks in NF4.
struct QuantizeRecipe {
  int bits = 4;                        ///< one of quant::kIntegerWidths
  int64_t group = 64;                  ///< columns that share a scale; 0: a row
  bool symmetric = false;              ///< without zero points
  bool nf4 = false;                    ///< of 4 bits, groups of 64 and method nearest
  std::string method = {};             ///< empty: nearest with 8 bits and NF4, or learned
  std::optional<int> vocabulary_bits;  ///< of embedding and head; none: as they are
  plan::LayerSelection selection = {{}, {"none"}};  ///< of the blocks' layers
  compress::MethodOptions fit;
  CalibrationText text;
};

/// The compression that quantizing a model is; compress_model checks that it can be done. Throws
/// c10::ValueError for a model without dense layers, for patterns that match none, and for NF4 with
/// other bits, groups or methods.
CompressRecipe compress_recipe(const QuantizeRecipe& recipe, const io::Checkpoint& model);

}  // namespace schmidt::pipeline
