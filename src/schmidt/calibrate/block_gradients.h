#pragma once

#include <map>

#include <torch/types.h>

#include "schmidt/model/block.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/rope_table.h"

namespace schmidt::calibrate {

/// Inputs [tokens, n] and gradients at the outputs [tokens, m] of each group; an expert's of the
/// tokens that take it alone.
struct BlockGradients {
  std::map<model::Group, torch::Tensor> inputs, gradients;
  torch::Tensor input_gradient;  ///< of the block's input [b, t, hidden]
};

/// Those of a block that reads h [b, t, hidden], where the gradient at what it writes is `above`.
BlockGradients differentiate(const model::Block& block, torch::Tensor h, const torch::Tensor& above,
                             const model::RopeTable& rope);

}  // namespace schmidt::calibrate
