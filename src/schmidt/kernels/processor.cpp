#include "schmidt/kernels/processor.h"

namespace schmidt::kernels {

bool multiplies_bfloat16(const torch::Device& device) {
#if defined(__x86_64__)
  return device.is_cuda() || __builtin_cpu_supports("avx512bf16");
#else
  return device.is_cuda();
#endif
}

}  // namespace schmidt::kernels
