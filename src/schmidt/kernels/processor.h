#pragma once

#include <torch/types.h>

namespace schmidt::kernels {

/// Whether matrices are multiplied in bfloat16 faster than in float32 there. On other
/// processors LibTorch's products of bfloat16 take many times as long, those of a backward
/// pass above all.
bool multiplies_bfloat16(const torch::Device& device);

/// Whether this CPU multiplies tiles of bfloat16 (AMX), which libraries then use.
bool has_tiles_of_bfloat16();

/// Whether Intel made this CPU: MKL uses AVX-512 on those alone.
bool made_by_intel();

/// Whether MKL, which LibTorch's products in float32 are, leaves vectors of 512 bits unused here:
/// it does on all processors but Intel's.
bool mkl_leaves_vectors_unused();

}  // namespace schmidt::kernels
