#pragma once

#include "schmidt/kernels/quantized_decode.h"
#include "schmidt/kernels/quantized_gemv.h"

namespace schmidt::kernels {

/// AVX2 and AVX-512, with and without products of 8-bit integers and permutations of bytes; empty
/// on other architectures.
Implementations<DecodeKernels> x86_decode_implementations();
Implementations<Int8Kernels> x86_int8_implementations();

}  // namespace schmidt::kernels
