#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/contracted_product.h"
#include "schmidt/tn/contraction_plan.h"

namespace schmidt::tn {

/// Cores begin .. end - 1 as one core [r_begin, m.., n.., r_end], contracted in the
/// cheapest order.
torch::Tensor merge_cores(const std::vector<torch::Tensor>& cores, CoreSpan span);

/// The steps of `plan`, in the cores' dtype: x [n] is the first one's [P, Q, S], W x [m] the last
/// one's. Where legs stand as a step wants them its matrix is the core's own memory.
std::vector<kernels::ContractionStep> contraction_steps(const std::vector<torch::Tensor>& cores,
                                                        const ContractionPlan& plan);

/// x [rows, n] -> x W^T [rows, m] along `plan`, rows in parts whose intermediates
/// stay in cache. Differentiable once: for the backward pass it keeps x and the
/// cores and contracts again, since what lies between is up to r times as large.
torch::Tensor contract(const std::vector<torch::Tensor>& cores, const torch::Tensor& x,
                       const ContractionPlan& plan);

}  // namespace schmidt::tn
