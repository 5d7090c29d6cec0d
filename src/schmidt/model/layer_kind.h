#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/io/json_record.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// Sites and bonds of one tensor network.
struct NetworkShape {
  std::vector<int64_t> out_dims, in_dims, bonds;
  bool fixed_gauge = false;  ///< stored without the freedom of its bonds
};

/// What is known of a stored weight from its form and the headers of its tensors.
struct WeightDescription {
  std::vector<int64_t> shape;               ///< [m, n] of the matrix that it stands for
  std::vector<NetworkShape> networks = {};  ///< the tensor networks that are its summands
  std::string label = {};                   ///< what else it is: "diagonal"; often nothing
  std::optional<int64_t> parameters = {};   ///< where they are not its floating numbers
};

/// The tensors of one layer without their data, under their full names.
using TensorHeaders = std::map<std::string, io::TensorInfo>;

/// How a weight is brought into a file.
struct PackOptions {
  torch::ScalarType dtype = torch::kFloat32;  ///< of its floating tensors
  /// Whether networks lose the freedom of their bonds; where nothing is said, as the form has it.
  std::optional<bool> fixed_gauge = {};
};

/// A form in which a layer's weight may be stored, and all that differs from form to form.
/// A new kind is one file pair that defines a LayerKind, and one line of the table in
/// layer_kinds.cpp (or a call of add_layer_kind).
struct LayerKind {
  std::string_view name;  ///< the value of "kind"

  /// Makes one projection of neighbours of one group that have this kind, so that a kind may
  /// hold them together. Throws FormatError if forms or tensors do not fit the layers.
  ProjectionPtr (*load)(std::span<const StoredLayer> layers, const Weights& weights);

  /// Throws FormatError if the form lacks what it needs.
  WeightDescription (*describe)(const io::JsonRecord& form, const std::string& name,
                                const TensorHeaders& tensors);

  /// A weight as a file holds it, from the form and tensors under the names that
  /// Projection::parameters gives them where LoadOptions::free_gauge asked for what can be
  /// trained: what a method has found, or what training has made of it. A tensor that comes
  /// without data stays as the file of the trained model has it.
  /// Throws c10::ValueError if a tensor is missing or holds NaN or infinity.
  StoredWeight (*pack)(const std::string& name, const StoredWeight& weight,
                       const PackOptions& options);
};

/// LayerKind::load of kinds that hold every layer by itself.
template <ProjectionPtr (*load_one)(const StoredLayer& layer, const Weights& weights)>
ProjectionPtr load_each(std::span<const StoredLayer> layers, const Weights& weights) {
  std::vector<ProjectionPtr> parts;
  for (const StoredLayer& layer : layers) parts.push_back(load_one(layer, weights));
  return concatenate(std::move(parts));
}

/// Packing of kinds whose tensors are stored as they are, but for the dtype.
StoredWeight pack_plainly(const std::string& name, const StoredWeight& weight,
                          const PackOptions& options);

}  // namespace schmidt::model
