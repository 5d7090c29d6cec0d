#include "schmidt/model/checkpointed.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

namespace schmidt::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What the second run needs beside h.
struct Recipe : torch::CustomClassHolder {
  Recipe(const Block& block_, RopeTable rope_, Packing packing_)
      : block(&block_), rope(std::move(rope_)), packing(std::move(packing_)) {}

  const Block* block;
  RopeTable rope;
  Packing packing;
};

struct Checkpointed : torch::autograd::Function<Checkpointed> {
  // `anchor` asks for a gradient: h need not, where only the block is trained.
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& h,
                               const torch::Tensor& /*anchor*/,
                               const c10::intrusive_ptr<Recipe>& recipe) {
    context->save_for_backward({h});
    context->saved_data["recipe"] = torch::IValue::make_capsule(recipe);
    return recipe->block->forward(h, recipe->rope, recipe->packing);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "[checkpointed] expected a first derivative, got a request for a "
                                "graph of it");
    const auto capsule = context->saved_data["recipe"].toCapsule();
    const auto& recipe = static_cast<const Recipe&>(*capsule);
    const bool wanted = context->needs_input_grad(0);
    const torch::Tensor h = context->get_saved_variables()[0].detach().requires_grad_(wanted);
    {
      const at::AutoGradMode enable(true);
      const torch::Tensor y = recipe.block->forward(h, recipe.rope, recipe.packing);
      torch::autograd::backward({y}, {gradients[0]});
    }
    return {wanted ? h.grad() : torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

bool trains(const Block& block) {
  const std::vector<NamedTensor> parameters = block.parameters();
  return std::any_of(parameters.begin(), parameters.end(),
                     [](const NamedTensor& p) { return p.tensor.requires_grad(); });
}

}  // namespace

torch::Tensor checkpointed(const Block& block, const torch::Tensor& h, const RopeTable& rope,
                           const Packing& packing) {
  if (!at::GradMode::is_enabled() || !(h.requires_grad() || trains(block))) {
    return block.forward(h, rope, packing);
  }
  const torch::Tensor anchor = at::empty({0}, h.options()).requires_grad_(true);
  return Checkpointed::apply(h, anchor, c10::make_intrusive<Recipe>(block, rope, packing));
}

}  // namespace schmidt::model
