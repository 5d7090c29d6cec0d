#pragma once

#include <cstdint>

#include <torch/types.h>

namespace schmidt::kernels {

/// Calls `run` with a null pointer of the C++ type that a cache of this dtype holds.
template <typename Run>
void with_held_type(torch::ScalarType dtype, const Run& run) {
  switch (dtype) {
    case torch::kFloat32:
      return run(static_cast<float*>(nullptr));
    case torch::kBFloat16:
      return run(static_cast<c10::BFloat16*>(nullptr));
    default:
      return run(static_cast<int8_t*>(nullptr));
  }
}

}  // namespace schmidt::kernels
