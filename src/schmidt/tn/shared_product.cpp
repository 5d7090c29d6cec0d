#include "schmidt/tn/shared_product.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace schmidt::tn {
namespace {

torch::Tensor product(const torch::Tensor& a, const torch::Tensor& x) {
  return at::bmm(a.expand({x.size(0), a.size(0), a.size(1)}), x);
}

/// sum_i y[i] x[i]^T, [r, q].
torch::Tensor outer_sum(const torch::Tensor& y, const torch::Tensor& x) {
  return at::addbmm(at::zeros({y.size(1), x.size(1)}, y.options()), y, x.transpose(1, 2), 0);
}

struct SharedProduct : torch::autograd::Function<SharedProduct> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& a,
                               const torch::Tensor& x) {
    context->save_for_backward({a, x});
    return product(a, x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const torch::Tensor &a = saved[0], &x = saved[1], &y = gradients[0];
    return {context->needs_input_grad(0) ? outer_sum(y, x) : torch::Tensor(),
            context->needs_input_grad(1) ? shared_product(a.t(), y) : torch::Tensor()};
  }
};

}  // namespace

torch::Tensor shared_product(const torch::Tensor& a, const torch::Tensor& x) {
  if (x.size(0) == 1) return at::mm(a, x.squeeze(0)).unsqueeze(0);
  const bool records = at::GradMode::is_enabled() && (a.requires_grad() || x.requires_grad());
  return records ? SharedProduct::apply(a, x) : product(a, x);
}

}  // namespace schmidt::tn
