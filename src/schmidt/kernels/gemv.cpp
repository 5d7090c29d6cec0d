#include "schmidt/kernels/gemv.h"

#include <ATen/Parallel.h>

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

/// Bytes of weights below which a second thread costs more than it brings: waking
/// it takes a few microseconds, in which one core reads about this much.
constexpr int64_t kBytesPerThread = 64 << 10;

template <typename T>
void run(GemvKernel<T> kernel, const GemvProblem<T>& p) {
  const int64_t row_bytes = std::max<int64_t>(1, p.n * static_cast<int64_t>(sizeof(T)));
  const int64_t grain = std::max<int64_t>(1, kBytesPerThread / row_bytes);
  at::parallel_for(0, p.m, grain, [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
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

void gemv(const GemvProblem<float>& problem) { run(chosen().float32, problem); }
void gemv(const GemvProblem<c10::BFloat16>& problem) { run(chosen().bfloat16, problem); }

}  // namespace schmidt::kernels
