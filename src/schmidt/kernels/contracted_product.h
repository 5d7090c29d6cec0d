#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/team_product.h"

namespace schmidt::kernels {

/// One step of x through a network: what x has become, [P, Q, S], is contracted with a matrix
/// [R, Q] to [P, R, S]. All legs keep their places, so that the same numbers are [P', Q', S'] to
/// the next step.
struct ContractionStep {
  torch::Tensor matrix;  ///< [R, Q]
  int64_t left, right;   ///< P, S
};

/// Few rows through all steps, of which x [n] is the first one's [P, Q, S] and y [m] the last one's
/// [P, R, S]. Matrices are in `dtype`, float32 or bfloat16, and copied.
TeamProductPtr contracted_team_product(std::vector<ContractionStep> steps, torch::ScalarType dtype);

}  // namespace schmidt::kernels
