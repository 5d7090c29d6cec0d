#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/pipeline/calibration_text.h"
#include "schmidt/pipeline/compress_recipe.h"
#include "schmidt/plan/layers.h"

namespace schmidt::pipeline {

/// The weights of a model in integers of few bits, dense ones whole, low ranks as two factors; or
/// the dense ones of the blocks in NF4.
struct QuantizeRecipe {
  int bits = 4;                        ///< one of quant::kIntegerWidths
  int64_t group = 64;                  ///< columns that share a scale; 0: a row
  bool symmetric = false;              ///< without zero points
  bool nf4 = false;                    ///< of 4 bits, groups of 64 and method nearest
  std::string method = {};             ///< empty: nearest with 8 bits and NF4, learned below
  std::optional<int> vocabulary_bits;  ///< of embedding and head; none: as they are
  /// Of the blocks' layers, by patterns, "dense" for all dense ones and "all" for low ranks too;
  /// none: dense ones.
  plan::LayerSelection selection = {{}, {"none"}};
  compress::MethodOptions fit;
  CalibrationText text;
};

/// The compression that quantizing a model is; compress_model checks that it can be done. Throws
/// c10::ValueError for patterns that match none of the layers that can be rounded, where the
/// selection leaves none, and for NF4 with other bits, groups, methods or with low ranks.
CompressRecipe compress_recipe(const QuantizeRecipe& recipe, const io::Checkpoint& model);

/// The same of dense layers by their shapes alone, embedding and output layer among them: block -1.
/// The selection is not looked at.
std::vector<plan::LayerPlan> integer_plan(const QuantizeRecipe& recipe,
                                          const std::vector<plan::Layer>& layers);

/// What the user should hear of layers that "all" leaves as they are: networks of more sites, and
/// sums of networks, are in no form whose rounding is known to be worth its bytes.
std::vector<std::string> quantize_notes(const QuantizeRecipe& recipe, const io::Checkpoint& model);

}  // namespace schmidt::pipeline
