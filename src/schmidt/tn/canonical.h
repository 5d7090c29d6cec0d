#pragma once

#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

/// The same matrix with its orthogonality centre at site `centre` (0-based): by QR
/// from both ends, cores left of it satisfy sum_{a,o,i} C[a,o,i,b] C[a,o,i,b'] = 1,
/// cores right of it the mirrored condition, so that ||W||_F is the norm of the
/// centre core. Bonds never grow. In the cores' dtype; float32 for a half type,
/// in which no core is orthonormal.
/// Throws c10::ValueError if `centre` is not a site.
Mpo canonicalize(const Mpo& mpo, int64_t centre);

}  // namespace schmidt::tn
