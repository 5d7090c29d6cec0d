#include "schmidt/kernels/gemv.h"

#include "schmidt/kernels/gemv_x86.h"

namespace schmidt::kernels {
namespace {

/// The plain loop, for CPUs that no vector kernel was written for.
template <typename T>
void reference(const GemvProblem<T>& p, int64_t begin, int64_t end) {
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t i = begin; i < end; ++i) {
      float sum = p.bias ? static_cast<float>(p.bias[i]) : 0.0f;
      for (int64_t j = 0; j < p.n; ++j) {
        sum += static_cast<float>(p.x[row * p.x_stride + j]) *
               static_cast<float>(p.w[i * p.w_stride + j]);
      }
      p.y[row * p.y_stride + i] = static_cast<T>(sum);
    }
  }
}

const GemvKernels& chosen() {
  static const GemvKernels* const kernels = fastest(gemv_implementations());
  return *kernels;
}

}  // namespace

const Implementations<GemvKernels>& gemv_implementations() {
  static const Implementations<GemvKernels> all = [] {
    Implementations<GemvKernels> found = {
        {InstructionSet::kPortable, {reference<float>, reference<c10::BFloat16>}}};
    for (const auto& implementation : x86_gemv_implementations()) found.push_back(implementation);
    return found;
  }();
  return all;
}

bool gemv_is_fast() { return supported(InstructionSet::kAvx2); }

template <>
GemvKernel<float> gemv_kernel() {
  return chosen().float32;
}

template <>
GemvKernel<c10::BFloat16> gemv_kernel() {
  return chosen().bfloat16;
}

}  // namespace schmidt::kernels
