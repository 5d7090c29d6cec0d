#pragma once

#include "schmidt/kernels/gemv.h"

namespace schmidt::kernels {

/// AVX2 and AVX-512; empty on other architectures. (The bfloat16 instructions of AVX-512 were
/// measured no faster than shifts and float32 sums.)
Implementations<GemvKernels> x86_gemv_implementations();

}  // namespace schmidt::kernels
