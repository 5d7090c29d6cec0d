#pragma once

#include <string_view>

#include <c10/core/ScalarType.h>

namespace schmidt::io {

/// A number format of safetensors that torch has too.
struct SafetensorsDtype {
  std::string_view name;  ///< in the header: "BF16"
  c10::ScalarType dtype;
  int rank;  ///< the reference's order: a file holds its tensors from high to low
};

/// Null for a name or dtype that is not among them.
const SafetensorsDtype* find_safetensors_dtype(std::string_view name);
const SafetensorsDtype* find_safetensors_dtype(c10::ScalarType dtype);

}  // namespace schmidt::io
