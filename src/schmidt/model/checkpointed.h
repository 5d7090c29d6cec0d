#pragma once

#include <torch/types.h>

#include "schmidt/model/block.h"

namespace schmidt::model {

/// block.forward(h, rope, packing), of which only h is kept for the backward pass,
/// where the block runs a second time: memory of one block's intermediates instead
/// of all blocks', for one forward pass more. Gradients are added to the same leaves, and
/// a hook on a leaf fires once, as soon as its block is done.
/// The block has to outlive the backward pass. Differentiable once, by backward():
/// autograd::grad() with respect to a block's parameters does not find them.
torch::Tensor checkpointed(const Block& block, const torch::Tensor& h, const RopeTable& rope,
                           const Packing& packing = {});

}  // namespace schmidt::model
