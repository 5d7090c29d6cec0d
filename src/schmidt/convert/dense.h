#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/convert/stored_groups.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/package/rewrite.h"

namespace schmidt::convert {

/// A model as its architecture knows it: every layer in another form is the matrix [m, n] that it
/// stands for, layers stored as one are themselves again.
struct DenseModel {
  package::Rewrite weights;
  nlohmann::json config;  ///< the architecture's own, without what says how layers were stored
  /// Weights that are one matrix in integers of few bits, by their names in `weights`: the form of
  /// model::kQuantizedKind, which stands under the name of `layer`.
  std::map<std::string, StoredGroup> integers;
};

struct DenseOptions {
  /// What floating tensors come in; without one they stay in their types, and matrices are written
  /// in that of the model (dense_dtype).
  std::optional<torch::ScalarType> dtype = {};
  /// Layers with a low rank beside a weight of full size (low_rank_groups) are that weight alone.
  bool without_low_ranks = false;
  /// Whether a weight of DenseModel::integers is written from its integers: then it is not
  /// multiplied out, and what the writer of `weights` gets of it is no tensor.
  std::function<bool(const StoredGroup&)> stays_integers = {};
};

/// A matrix is made when it is written.
/// Throws FormatError where compression_config does not fit the model.
DenseModel dense_model(const io::Checkpoint& checkpoint, const DenseOptions& options = {});

/// Leaves the architecture's own config, without what says how layers were stored.
void erase_stored_forms(nlohmann::json& config);

/// What config.json says the model's weights are in, else what its final norm is stored in:
/// float32, float16 or bfloat16. Throws FormatError as model::parse_config.
torch::ScalarType dense_dtype(const io::Checkpoint& checkpoint);

}  // namespace schmidt::convert
