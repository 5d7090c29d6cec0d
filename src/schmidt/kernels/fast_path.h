#pragma once

#include <cstdint>
#include <initializer_list>

#include <ATen/core/grad_mode.h>
#include <torch/types.h>

namespace schmidt::kernels {

/// Whether a kernel of our own can compute with these: on the CPU, in float32 or
/// bfloat16 throughout.
inline bool fast_types(std::initializer_list<const torch::Tensor*> tensors) {
  const torch::ScalarType dtype = (*tensors.begin())->scalar_type();
  if (dtype != torch::kFloat32 && dtype != torch::kBFloat16) return false;
  for (const torch::Tensor* tensor : tensors) {
    if (!tensor->is_cpu() || tensor->scalar_type() != dtype) return false;
  }
  return true;
}

/// Whether an operation on these has to record how to differentiate it.
inline bool records_gradient(std::initializer_list<const torch::Tensor*> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const torch::Tensor* tensor : tensors) {
    if (tensor->requires_grad()) return true;
  }
  return false;
}

/// Whether a kernel without a backward pass may stand in for its ATen reference.
inline bool fast_path(std::initializer_list<const torch::Tensor*> tensors) {
  return fast_types(tensors) && !records_gradient(tensors);
}

/// Refuses to be differentiated twice: for the backward pass of `what`.
inline void check_first_derivative(const char* what) {
  TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(), "[", what,
                              "] expected a first derivative, got a request for a graph of it");
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
