#pragma once

#include "schmidt/kernels/quantized_gemm.h"

namespace schmidt::kernels {

/// AVX-512 with products of 8-bit integers; empty on other architectures.
Implementations<PanelKernels> x86_panel_implementations();

}  // namespace schmidt::kernels
