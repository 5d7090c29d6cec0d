#pragma once

#include <string_view>
#include <vector>

namespace schmidt::kernels {

/// What kernels are compiled for, from what every CPU has to what the newest have.
enum class InstructionSet {
  kPortable,
  kAvx2,        ///< AVX2 and FMA
  kAvx512,      ///< these and AVX-512 F, BW, DQ and VL
  kAvx512Vnni,  ///< kAvx512 and products of 8-bit integers
  kAvx512Vbmi,  ///< kAvx512Vnni and permutations and expansions of bytes and words
  kAvx512Bf16,  ///< kAvx512 and products of bfloat16, with or without the two before it
  kAmxBf16,     ///< kAvx512Bf16 and products of tiles of bfloat16
};

std::string_view name_of(InstructionSet set);

/// All of them, in the order of the list above.
std::vector<InstructionSet> instruction_sets();

/// Whether this CPU has it. The environment variable SCHMIDT_INSTRUCTION_SET, the name of a set
/// ("portable", "avx2", "avx512", "avx512-vnni", "avx512-vbmi", "avx512-bf16", "amx-bf16"), hides
/// those that stand after it in the list above, as on an older CPU.
/// Throws c10::ValueError for another value of it.
bool supported(InstructionSet set);

/// The functions of one operation as compiled for one instruction set. Only functions that carry
/// a target attribute use its instructions, so that nothing the linker may share with other files
/// needs more than the base CPU.
template <typename Functions>
struct Implementation {
  InstructionSet set;
  Functions functions;
};

/// All that were compiled in, the fastest last.
template <typename Functions>
using Implementations = std::vector<Implementation<Functions>>;

/// The fastest that this CPU can run; null where there is none.
template <typename Functions>
const Functions* fastest(const Implementations<Functions>& all) {
  for (auto found = all.rbegin(); found != all.rend(); ++found) {
    if (supported(found->set)) return &found->functions;
  }
  return nullptr;
}

}  // namespace schmidt::kernels
