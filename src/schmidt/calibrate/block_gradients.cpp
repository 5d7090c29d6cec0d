#include "schmidt/calibrate/block_gradients.h"

#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

namespace schmidt::calibrate {

using model::Group;

BlockGradients differentiate(const model::Block& block, torch::Tensor h, const torch::Tensor& above,
                             const model::RopeTable& rope) {
  const at::AutoGradMode grad(true);
  h.requires_grad_();
  BlockGradients pass;
  std::map<Group, torch::Tensor> takers;
  std::vector<torch::Tensor> reached = {h};
  model::BlockPass at = block.begin(h, rope);
  while (const auto group = at.group()) {
    torch::Tensor inputs = at.input().detach().flatten(0, 1);
    if (group->expert) {
      const torch::Tensor rows = takers[*group] = at.takers();
      inputs = inputs.index_select(0, rows);
    }
    pass.inputs[*group] = std::move(inputs);
    reached.push_back(at.outputs());
    // Those of an expert that no token takes hang on nothing.
    if (!reached.back().requires_grad()) reached.back().requires_grad_();
    at.advance(reached.back());
  }
  const auto gradients = torch::autograd::grad({at.residual()}, reached, {above}, std::nullopt,
                                               false, /*allow_unused=*/true);
  pass.input_gradient = gradients[0];
  for (size_t i = 0; i < block.groups().size(); ++i) {
    const torch::Tensor g =
        gradients[i + 1].defined() ? gradients[i + 1] : at::zeros_like(reached[i + 1]);
    torch::Tensor& kept = pass.gradients[block.groups()[i]] = g.flatten(0, 1);
    const auto rows = takers.find(block.groups()[i]);
    if (rows != takers.end()) kept = kept.index_select(0, rows->second);
  }
  return pass;
}

}  // namespace schmidt::calibrate
