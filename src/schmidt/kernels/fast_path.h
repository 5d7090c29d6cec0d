#pragma once

#include <cstdint>
#include <initializer_list>

#include <ATen/core/grad_mode.h>
#include <torch/types.h>

namespace schmidt::kernels {

/// Whether a kernel of our own may stand in for its ATen reference: on the CPU, in
/// float32 or bfloat16 throughout, with no gradient to record.
inline bool fast_path(std::initializer_list<const torch::Tensor*> tensors) {
  const torch::ScalarType dtype = (*tensors.begin())->scalar_type();
  if (dtype != torch::kFloat32 && dtype != torch::kBFloat16) return false;
  for (const torch::Tensor* tensor : tensors) {
    if (!tensor->is_cpu() || tensor->scalar_type() != dtype) return false;
    if (at::GradMode::is_enabled() && tensor->requires_grad()) return false;
  }
  return true;
}

/// Scalars that one thread should have at least, for it to be worth waking.
inline constexpr int64_t kGrain = 16384;

}  // namespace schmidt::kernels
