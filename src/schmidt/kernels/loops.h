#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/instruction_sets.h"

namespace schmidt::kernels {

/// Loops over arrays, compiled once for each instruction set and chosen at run time.
/// A kernel is a struct whose static `run`, and all that calls, is always inlined:
///
///   struct Double {
///     SCHMIDT_INLINE_LOOP static void run(const float* x, float* y, int64_t n) { .. }
///   };
///   run_fastest<Double>(x, y, n);
#define SCHMIDT_INLINE_LOOP [[gnu::always_inline]] inline

template <typename Kernel, typename... Args>
void run_portable(Args... args) {
  Kernel::run(args...);
}

#if defined(__x86_64__)
template <typename Kernel, typename... Args>
[[gnu::target("avx2,fma")]] void run_avx2(Args... args) {
  Kernel::run(args...);
}

template <typename Kernel, typename... Args>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]] void run_avx512(Args... args) {
  Kernel::run(args...);
}
#endif

template <typename Kernel, typename... Args>
Implementations<void (*)(Args...)> loop_implementations() {
  return {
    {InstructionSet::kPortable, run_portable<Kernel, Args...>},
#if defined(__x86_64__)
        {InstructionSet::kAvx2, run_avx2<Kernel, Args...>},
        {InstructionSet::kAvx512, run_avx512<Kernel, Args...>},
#endif
  };
}

template <typename Kernel, typename... Args>
void run_fastest(Args... args) {
  static const auto run = *fastest(loop_implementations<Kernel, Args...>());
  run(args...);
}

// Conversions and functions without branches, which compilers turn into vectors.

SCHMIDT_INLINE_LOOP float widen(float value) { return value; }
SCHMIDT_INLINE_LOOP float widen(int8_t value) { return static_cast<float>(value); }
SCHMIDT_INLINE_LOOP float widen(c10::BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.x) << 16);
}

template <typename T>
SCHMIDT_INLINE_LOOP T narrow(float value);

template <>
SCHMIDT_INLINE_LOOP float narrow<float>(float value) {
  return value;
}

/// To the nearest, ties to even; NaN stays NaN.
template <>
SCHMIDT_INLINE_LOOP c10::BFloat16 narrow<c10::BFloat16>(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t nearest = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return c10::BFloat16(static_cast<uint16_t>(nan ? 0x7fc0U : nearest), c10::BFloat16::from_bits());
}

/// exp(x) to 2 units in the last place, x taken into [-87, 88] first: 2^n e^r with |r|
/// at most ln(2) / 2, e^r by its Taylor polynomial.
SCHMIDT_INLINE_LOOP float fast_exp(float x) {
  x = x < -87.0F ? -87.0F : (x > 88.0F ? 88.0F : x);
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (x * 1.44269504F + kRound) - kRound;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float e = 1.0F / 720;
  e = e * r + 1.0F / 120;
  e = e * r + 1.0F / 24;
  e = e * r + 1.0F / 6;
  e = e * r + 0.5F;
  e = e * r + 1.0F;
  e = e * r + 1.0F;
  return e * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

}  // namespace schmidt::kernels
