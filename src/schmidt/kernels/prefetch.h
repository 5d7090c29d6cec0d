#pragma once

#include <cstdint>

namespace schmidt::kernels {

/// How far ahead of its use memory is asked for. A line takes some 100 nanoseconds to come, in
/// which a core reads about 3 KB; what is more covers that lines come in bursts (measured on Zen
/// 4).
inline constexpr int64_t kPrefetchBytes = 16 << 10;

/// Asks for what stands kPrefetchBytes behind `here`. It goes to the second cache: the first has
/// room for the lines of a tenth of that time, and the processor foresees neither rows as short as
/// those of small models nor several of them at once.
[[gnu::always_inline]] inline void prefetch(const void* here) {
  __builtin_prefetch(static_cast<const char*>(here) + kPrefetchBytes, /*rw=*/0, /*locality=*/2);
}

}  // namespace schmidt::kernels
