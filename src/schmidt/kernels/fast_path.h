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

/// Calls `run` with a null pointer of the C++ type behind a dtype of the fast path.
template <typename Run>
void with_fast_type(torch::ScalarType dtype, const Run& run) {
  if (dtype == torch::kFloat32) {
    run(static_cast<float*>(nullptr));
  } else {
    run(static_cast<c10::BFloat16*>(nullptr));
  }
}

/// Scalars that one thread should have at least, for it to be worth waking.
inline constexpr int64_t kGrain = 16384;

}  // namespace schmidt::kernels
