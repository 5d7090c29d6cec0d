#pragma once

#include <torch/types.h>

namespace schmidt::tn {

/// a [r, q], x [p, q, s] -> y [p, r, s], y[i] = a x[i]: one matrix for the whole
/// batch. Differentiable; unlike a batched product of an expanded matrix, its
/// gradient needs no p copies of a.
torch::Tensor shared_product(const torch::Tensor& a, const torch::Tensor& x);

}  // namespace schmidt::tn
