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

/// The same matrix with each bond's singular values split evenly between its two sides:
/// with two sites U S^{1/2} and S^{1/2} V^T of W = U S V^T. A small change of any core
/// then changes W by as much as one of another core, which gradient descent asks for.
/// Computed in float64, in the cores' dtype.
/// Throws c10::LinAlgError if a decomposition does not converge.
/// Source: Vidal 2003, arXiv:quant-ph/0301063, with lambda^{1/2} on both sides.
Mpo balance(const Mpo& mpo);

}  // namespace schmidt::tn
