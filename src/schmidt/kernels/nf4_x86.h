#pragma once

#include "schmidt/kernels/nf4_linear.h"

namespace schmidt::kernels {

/// For AVX2 and AVX-512; none on other processors.
Implementations<Nf4Kernels> x86_nf4_implementations();

}  // namespace schmidt::kernels
