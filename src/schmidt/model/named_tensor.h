#pragma once

#include <string>

#include <torch/types.h>

namespace schmidt::model {

/// What a tensor is to the model, which decides whether a run trains it.
enum class Role {
  kDense,       ///< weight of a layer that is not compressed, norm or bias
  kFactor,      ///< part of a compressed weight
  kCodes,       ///< what the codes of integers are rounded from
  kZeros,       ///< what their zero points are rounded from
  kVocabulary,  ///< weight of an embedding or output layer that is not compressed
};

/// A tensor under the name that checkpoints give it.
struct NamedTensor {
  std::string name;
  torch::Tensor tensor;
  Role role = Role::kDense;
};

}  // namespace schmidt::model
