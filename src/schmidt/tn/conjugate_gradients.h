#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <torch/types.h>

namespace schmidt::tn {

using Cores = std::vector<torch::Tensor>;

struct CgOptions {
  int64_t steps;     ///< at most
  double tolerance;  ///< stops when a step gains less than this share of all gains
};

/// Solves N X = B for a symmetric positive semi-definite N on several tensors at once, by
/// preconditioned conjugate gradients from 0: every step lowers X N X / 2 - B X.
Cores conjugate_gradients(const Cores& b, const std::function<Cores(const Cores&)>& normal_product,
                          const std::function<Cores(const Cores&)>& precondition,
                          const CgOptions& options);

/// Sum of the products of all entries, in float64.
double inner_product(const Cores& a, const Cores& b);

}  // namespace schmidt::tn
