#pragma once

#include <torch/types.h>

namespace schmidt::tn {

/// The largest absolute entry, in one pass; NaN if there is one, 0 if there is none.
double largest_entry(const torch::Tensor& t);

/// The same as a unit to measure in: 1 for a zero or undefined tensor.
double unit_of(const torch::Tensor& t);

}  // namespace schmidt::tn
