#include "schmidt/kernels/processor.h"

#include "schmidt/kernels/instruction_sets.h"

namespace schmidt::kernels {

bool multiplies_bfloat16(const torch::Device& device) {
  return device.is_cuda() || supported(InstructionSet::kAvx512Bf16);
}

}  // namespace schmidt::kernels
