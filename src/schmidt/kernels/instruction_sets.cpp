#include "schmidt/kernels/instruction_sets.h"

#include <array>
#include <cstdlib>
#include <string>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "schmidt/base/named.h"

namespace schmidt::kernels {
namespace {

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool has_vbmi() {
  return has_vnni() && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vbmi2");
}
bool has_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

/// Linux keeps the tiles of a process that has asked for them (arch_prctl).
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool has_amx() {
  return has_bf16() && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         may_use_tiles();
}
#else
constexpr bool (*has_avx2)() = nullptr, (*has_avx512)() = nullptr, (*has_vnni)() = nullptr,
               (*has_vbmi)() = nullptr, (*has_bf16)() = nullptr, (*has_amx)() = nullptr;
#endif

struct Name {
  std::string_view name;
  InstructionSet set;
  bool (*on_this_cpu)();  // null on other architectures
};

constexpr std::array<Name, 7> kNames = {{
    {"portable", InstructionSet::kPortable, nullptr},
    {"avx2", InstructionSet::kAvx2, has_avx2},
    {"avx512", InstructionSet::kAvx512, has_avx512},
    {"avx512-vnni", InstructionSet::kAvx512Vnni, has_vnni},
    {"avx512-vbmi", InstructionSet::kAvx512Vbmi, has_vbmi},
    {"avx512-bf16", InstructionSet::kAvx512Bf16, has_bf16},
    {"amx-bf16", InstructionSet::kAmxBf16, has_amx},
}};

/// For each set whether kernels may use it.
std::array<bool, kNames.size()> usable() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  const char* const asked = std::getenv("SCHMIDT_INSTRUCTION_SET");
  const InstructionSet last = asked == nullptr
                                  ? kNames.back().set
                                  : find_named(kNames, asked, "SCHMIDT_INSTRUCTION_SET").set;
  std::array<bool, kNames.size()> found{};
  for (size_t i = 0; i < kNames.size(); ++i) {
    const auto& [name, set, on_this_cpu] = kNames.at(i);
    found.at(i) = set == InstructionSet::kPortable ||
                  (set <= last && on_this_cpu != nullptr && on_this_cpu());
  }
  return found;
}

}  // namespace

std::string_view name_of(InstructionSet set) { return kNames.at(static_cast<size_t>(set)).name; }

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets;
  for (const Name& name : kNames) sets.push_back(name.set);
  return sets;
}

bool supported(InstructionSet set) {
  static const auto here = usable();
  return here.at(static_cast<size_t>(set));
}

}  // namespace schmidt::kernels
