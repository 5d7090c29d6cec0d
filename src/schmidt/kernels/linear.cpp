#include "schmidt/kernels/linear.h"

namespace schmidt::kernels {

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& w,
                     const std::optional<torch::Tensor>& bias) {
  TORCH_CHECK_VALUE(w.dim() == 2 && x.dim() >= 1 && x.size(-1) == w.size(1),
                    "[linear] expected x [..., n] and w [m, n], got ", x.sizes(), " and ",
                    w.sizes());
  return at::linear(x, w, bias);
}

}  // namespace schmidt::kernels
