#include "schmidt/kernels/memory_speed.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include <ATen/Parallel.h>

#include "schmidt/kernels/loops.h"
#include "schmidt/kernels/prefetch.h"

namespace schmidt::kernels {
namespace {

constexpr int64_t kLine = 64 / sizeof(uint64_t);

/// Of whole lines.
struct Sum {
  SCHMIDT_INLINE_LOOP static void run(const uint64_t* from, int64_t count, uint64_t* total) {
    uint64_t sum = 0;
    for (int64_t line = 0; line < count; line += kLine) {
      prefetch(from + line);
      for (int64_t i = line; i < line + kLine; ++i) sum += from[i];
    }
    *total = sum;
  }
};

}  // namespace

double measure_read_speed() {
  constexpr int64_t kBytes = int64_t{256} << 20;
  constexpr int64_t kLines = kBytes / 64, kGrain = 1 << 13;
  const std::vector<uint64_t> memory(kLines * kLine, 1);
  std::atomic<uint64_t> all{0};  // read at the end, so that no pass is left out
  double best = 0.0;
  for (int pass = 0; pass < 5; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    at::parallel_for(0, kLines, kGrain, [&](int64_t begin, int64_t end) {
      uint64_t sum = 0;
      run_fastest<Sum>(memory.data() + begin * kLine, (end - begin) * kLine, &sum);
      all += sum;
    });
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(kBytes) / seconds);
  }
  return all.load() == 0 ? 0.0 : best;
}

}  // namespace schmidt::kernels
