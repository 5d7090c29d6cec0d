#pragma once

#include <vector>

#include "schmidt/kernels/gemv.h"

namespace schmidt::kernels {

/// AVX2 and AVX-512, slowest first; empty on other architectures. (The bfloat16
/// instructions of AVX-512 were measured no faster than shifts and float32 sums.)
/// Only functions that carry a target attribute use these instructions, so that
/// nothing the linker may share with other files needs more than the base CPU.
std::vector<GemvVariant> x86_gemv_variants();

}  // namespace schmidt::kernels
