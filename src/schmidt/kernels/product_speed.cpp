#include "schmidt/kernels/product_speed.h"

#include <algorithm>
#include <chrono>

namespace schmidt::kernels {

double measure_product_speed(const torch::Device& device, torch::ScalarType dtype) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kSize = 1024;
  const torch::Tensor a =
      at::ones({kSize, kSize}, torch::TensorOptions().device(device).dtype(dtype));
  double best = 0.0;
  const auto until = Clock::now() + std::chrono::milliseconds(300);
  do {
    const auto start = Clock::now();
    at::matmul(a, a)[0][0].item<float>();  // a device is waited for
    const std::chrono::duration<double> seconds = Clock::now() - start;
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds.count());
  } while (Clock::now() < until);
  return best;
}

}  // namespace schmidt::kernels
