#pragma once

#include <string>

#include <torch/types.h>

namespace schmidt::model {

/// A tensor under the name that checkpoints give it.
struct NamedTensor {
  std::string name;
  torch::Tensor tensor;
};

}  // namespace schmidt::model
