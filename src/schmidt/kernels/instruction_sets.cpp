#include "schmidt/kernels/instruction_sets.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "schmidt/base/named.h"

namespace schmidt::kernels {
namespace {

struct Name {
  std::string_view name;
  InstructionSet set;
};

constexpr std::array<Name, 4> kNames = {{
    {"portable", InstructionSet::kPortable},
    {"avx2", InstructionSet::kAvx2},
    {"avx512", InstructionSet::kAvx512},
    {"avx512-bf16", InstructionSet::kAvx512Bf16},
}};

InstructionSet widest_of_cpu() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    return InstructionSet::kPortable;
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!avx512) return InstructionSet::kAvx2;
  return __builtin_cpu_supports("avx512bf16") ? InstructionSet::kAvx512Bf16
                                              : InstructionSet::kAvx512;
#else
  return InstructionSet::kPortable;
#endif
}

InstructionSet widest() {
  const InstructionSet cpu = widest_of_cpu();
  const char* const asked = std::getenv("SCHMIDT_INSTRUCTION_SET");
  if (asked == nullptr) return cpu;
  return std::min(cpu, find_named(kNames, asked, "SCHMIDT_INSTRUCTION_SET").set);
}

}  // namespace

std::string_view name_of(InstructionSet set) { return kNames.at(static_cast<size_t>(set)).name; }

bool supported(InstructionSet set) {
  static const InstructionSet here = widest();
  return set <= here;
}

}  // namespace schmidt::kernels
