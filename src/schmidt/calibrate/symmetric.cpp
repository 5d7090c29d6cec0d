#include "schmidt/calibrate/symmetric.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace schmidt::calibrate {

torch::Tensor packed(const torch::Tensor& symmetric) {
  TORCH_CHECK_VALUE(symmetric.dim() == 2 && symmetric.size(0) == symmetric.size(1),
                    "[symmetric] expected a square matrix, got ", symmetric.sizes());
  const torch::Tensor matrix = symmetric.cpu();
  const int64_t n = matrix.size(0);
  torch::Tensor triangle = at::empty({n * (n + 1) / 2}, matrix.options());
  for (int64_t i = 0, begin = 0; i < n; begin += n - i, ++i) {
    triangle.narrow(0, begin, n - i).copy_(matrix[i].narrow(0, i, n - i));
  }
  return triangle;
}

torch::Tensor unpacked(const torch::Tensor& triangle) {
  const auto n = std::llround((std::sqrt(8.0 * static_cast<double>(triangle.numel()) + 1) - 1) / 2);
  TORCH_CHECK_VALUE(triangle.dim() == 1 && n * (n + 1) / 2 == triangle.numel(),
                    "[symmetric] expected a triangle, got ", triangle.sizes());
  torch::Tensor matrix = at::empty({n, n}, triangle.options());
  for (int64_t i = 0, begin = 0; i < n; begin += n - i, ++i) {
    const torch::Tensor row = triangle.narrow(0, begin, n - i);
    matrix[i].narrow(0, i, n - i).copy_(row);
    matrix.select(1, i).narrow(0, i, n - i).copy_(row);
  }
  return matrix;
}

torch::Tensor completed(torch::Tensor m) {
  constexpr int64_t kStripe = 256;
  const int64_t n = m.size(0);
  for (int64_t begin = 0; begin < n; begin += kStripe) {
    const int64_t rows = std::min(kStripe, n - begin);
    torch::Tensor block = m.narrow(0, begin, rows).narrow(1, begin, rows);
    block.copy_(block.triu() + block.triu(1).t());
    m.narrow(0, begin, rows)
        .narrow(1, 0, begin)
        .copy_(m.narrow(0, 0, begin).narrow(1, begin, rows).t());
  }
  return m;
}

}  // namespace schmidt::calibrate
