#include "schmidt/kernels/processor.h"

#include <ATen/Context.h>

#include "schmidt/kernels/instruction_sets.h"

namespace schmidt::kernels {

bool multiplies_bfloat16(const torch::Device& device) {
  return device.is_cuda() || supported(InstructionSet::kAvx512Bf16);
}

bool has_tiles_of_bfloat16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("amx-bf16") != 0;
#else
  return false;
#endif
}

bool made_by_intel() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

bool mkl_leaves_vectors_unused() {
  static const bool unused = !made_by_intel() && at::hasMKL();
  return unused;
}

}  // namespace schmidt::kernels
