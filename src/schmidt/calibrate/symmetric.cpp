#include "schmidt/calibrate/symmetric.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

namespace schmidt::calibrate {

namespace {

/// Calls use(first, count) for stripes of n rows, wide enough for products at full speed and narrow
/// enough to skip most of a triangle.
template <typename Use>
void for_stripes(int64_t n, const Use& use) {
  const int64_t width = std::max<int64_t>(64, (n + 7) / 8);
  for (int64_t first = 0; first < n; first += width) use(first, std::min(width, n - first));
}

}  // namespace

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

torch::Tensor symmetric_product(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK_VALUE(
      a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) && a.size(0) == b.size(1),
      "[symmetric_product] expected [n, k] and [k, n], got ", a.sizes(), " and ", b.sizes());
  torch::Tensor c = at::empty({a.size(0), a.size(0)}, a.options());
  for_stripes(a.size(0), [&](int64_t first, int64_t rows) {
    c.narrow(0, first, rows)
        .slice(1, first)
        .copy_(at::matmul(a.narrow(0, first, rows), b.slice(1, first)));
  });
  return completed(c);
}

torch::Tensor lower_congruence(const torch::Tensor& r, const torch::Tensor& b) {
  TORCH_CHECK_VALUE(r.dim() == 2 && r.size(0) == r.size(1) && r.sizes() == b.sizes(),
                    "[lower_congruence] expected two square matrices of one size, got ", r.sizes(),
                    " and ", b.sizes());
  torch::Tensor c = at::zeros(b.sizes(), b.options());
  for_stripes(r.size(0), [&](int64_t first, int64_t columns) {
    // Above a column's first row R is zero, and above the triangle nothing is asked for.
    const torch::Tensor below = r.slice(0, first), last = b.slice(0, first).slice(1, first);
    const torch::Tensor image = at::matmul(last, below.narrow(1, first, columns));
    c.slice(0, first).narrow(1, first, columns).copy_(at::matmul(below.slice(1, first).t(), image));
  });
  return c;
}

}  // namespace schmidt::calibrate
