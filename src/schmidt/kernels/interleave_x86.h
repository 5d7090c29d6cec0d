#pragma once

#include "schmidt/kernels/interleave.h"

namespace schmidt::kernels {

/// AVX-512 that spreads neighbouring numbers over a mask; empty on other architectures.
Implementations<MergeKernels> x86_merge_implementations();

}  // namespace schmidt::kernels
