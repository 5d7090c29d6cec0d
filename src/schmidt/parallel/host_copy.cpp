#include "schmidt/parallel/host_copy.h"

#include <ATen/core/grad_mode.h>

namespace schmidt::parallel {

void HostCopy::write_back() const {
  if (!is_copy()) return;
  const at::NoGradGuard no_grad;
  torch::Tensor original = original_;
  original.copy_(host_);
}

}  // namespace schmidt::parallel
