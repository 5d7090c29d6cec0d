#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/Parallel.h>

#include "schmidt/kernels/gemv.h"

namespace schmidt::kernels {

/// Where outputs go: y [rows, m], `stride` elements between rows.
template <typename T>
struct Outputs {
  T* y;
  int64_t stride;
};

/// Numbers of W that are held at a time: they stay in the nearest cache.
inline constexpr int64_t kHeldNumbers = 4 << 10;

/// y = x W^T for x [rows, n] and a W [m, n] of which decode(begin, end, to) writes rows as float32
/// [end - begin, n], a few at a time. Another thread is woken for `grain` rows of W. Which rows are
/// held together, and with that the order of all sums, is the same on any number of threads.
template <typename T, typename Decode>
void multiply_held_rows(const Decode& decode, int64_t m, int64_t n, const float* x, int64_t rows,
                        int64_t grain, const Outputs<T>& to) {
  const GemvKernel<float> product = gemv_kernel<float>();
  const int64_t most = std::max<int64_t>(kHeldNumbers / n, 4);
  at::parallel_for(
      0, (m + most - 1) / most, std::max<int64_t>(1, grain / most),
      [&](int64_t first, int64_t last) {
        std::vector<float> held(most * n), y(rows * most);
        for (int64_t i = first * most; i < std::min(m, last * most); i += most) {
          const int64_t count = std::min(most, m - i);
          decode(i, i + count, held.data());
          product({x, held.data(), nullptr, y.data(), rows, count, n, n, n, count}, 0, count);
          for (int64_t row = 0; row < rows; ++row) {
            std::copy_n(y.data() + row * count, count, to.y + row * to.stride + i);
          }
        }
      });
}

}  // namespace schmidt::kernels
