#pragma once

#include <torch/types.h>

#include "schmidt/compress/methods.h"

namespace schmidt::compress {

/// ||W - W'||_F / ||W||_F; 0 where W is zero.
double relative_error(const torch::Tensor& w, const torch::Tensor& approximation);

/// The same in the norm of the inputs' moments, which are known.
double weighted_error(const torch::Tensor& w, const torch::Tensor& approximation,
                      const LayerInputs& inputs);

}  // namespace schmidt::compress
