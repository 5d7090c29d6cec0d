#pragma once

namespace schmidt::kernels {

/// What products with integers of few bits compute with.
enum class Activations {
  kExact,  ///< float32 throughout: the same on every CPU up to the rounding of float32
  kInt8,   ///< rounded to int8 by blocks where that is faster, with the error that
           ///< kernels/quantized_gemv states
};

}  // namespace schmidt::kernels
