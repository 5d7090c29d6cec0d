#include "schmidt/kernels/swiglu.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/silu.h>

namespace schmidt::kernels {

torch::Tensor swiglu(const torch::Tensor& gate_up) {
  TORCH_CHECK_VALUE(gate_up.dim() >= 1 && gate_up.size(-1) % 2 == 0,
                    "[swiglu] expected [..., 2 m], got ", gate_up.sizes());
  const int64_t m = gate_up.size(-1) / 2;
  torch::Tensor active = at::silu(gate_up.narrow(-1, 0, m));
  const torch::Tensor up = gate_up.narrow(-1, m, m);
  const bool recorded = at::GradMode::is_enabled() && gate_up.requires_grad();
  return recorded ? active * up : active.mul_(up);
}

}  // namespace schmidt::kernels
