#include "schmidt/compress/error_feedback.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_solve_triangular.h>

namespace schmidt::compress {
namespace {

/// Columns whose errors reach those after them in one product.
constexpr int64_t kBlock = 64;

/// Rows that are rounded at once: their block stays in a cache.
constexpr int64_t kRows = 4096;

torch::Tensor codes_of_rows(const torch::Tensor& w, const IntegerGrid& grid,
                            const torch::Tensor& feedback) {
  const int64_t n = w.size(1), group = grid.format.group;
  const int highest = grid.format.levels() - 1;
  // A column's numbers lie beside each other.
  torch::Tensor left = w.to(torch::kFloat32).t().contiguous();
  const torch::Tensor scales = grid.scales.t().contiguous(), zeros = grid.zeros.t().contiguous();
  torch::Tensor codes = at::empty_like(left);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t columns = std::min(kBlock, n - begin), end = begin + columns;
    torch::Tensor block = left.narrow(0, begin, columns);
    for (int64_t i = 0; i < columns; ++i) {
      const int64_t j = begin + i;
      const torch::Tensor s = scales[j / group], z = zeros[j / group];
      torch::Tensor error = block[i];  // becomes what rounding it loses
      torch::Tensor code = codes[j];
      code.copy_(error).div_(s).add_(z).round_().clamp_(0, highest);
      error.addcmul_(code - z, s, -1);
      const torch::Tensor reach = feedback[j].narrow(0, j + 1, end - j - 1);
      block.narrow(0, i + 1, columns - i - 1).addr_(reach, error, 1, -1);
    }
    if (end == n) break;
    left.narrow(0, end, n - end)
        .addmm_(feedback.narrow(0, begin, columns).narrow(1, end, n - end).t(), block, 1, -1);
  }
  return codes.t();
}

}  // namespace

torch::Tensor feedback_of(const torch::Tensor& moments, double damping) {
  const int64_t n = moments.size(0);
  const double mean = moments.diagonal().mean().item<double>();
  if (!(mean > 0)) return at::eye(n, moments.options().dtype(torch::kFloat32));
  torch::Tensor damped = moments.to(torch::kFloat64, /*non_blocking=*/false, /*copy=*/true);
  damped.diagonal().add_(damping * mean);
  // G = U U^T of an upper triangle is the Cholesky decomposition in the reverse order of columns,
  // and G^{-1} = U^{-T} U^{-1}.
  const torch::Tensor u = at::linalg_cholesky(damped.flip({0, 1})).flip({0, 1});
  const torch::Tensor identity = at::eye(n, damped.options());
  const torch::Tensor inverse = at::linalg_solve_triangular(u, identity, /*upper=*/true);
  return (inverse * u.diagonal().unsqueeze(1)).to(torch::kFloat32).contiguous();
}

torch::Tensor gptq_codes(const torch::Tensor& w, const IntegerGrid& grid,
                         const torch::Tensor& feedback) {
  torch::Tensor codes = at::empty(w.sizes(), w.options().dtype(torch::kFloat32));
  for (int64_t begin = 0; begin < w.size(0); begin += kRows) {
    const int64_t rows = std::min(kRows, w.size(0) - begin);
    const auto part = [&](const torch::Tensor& t) { return t.narrow(0, begin, rows); };
    part(codes).copy_(
        codes_of_rows(part(w), {grid.format, part(grid.scales), part(grid.zeros)}, feedback));
  }
  return codes;
}

torch::Tensor yaqa_codes(const torch::Tensor& w, const IntegerGrid& grid,
                         const torch::Tensor& of_inputs, const torch::Tensor& of_outputs) {
  const int64_t m = w.size(0), n = w.size(1), group = grid.format.group;
  const auto highest = static_cast<float>(grid.format.levels() - 1);
  const auto ready = [](const torch::Tensor& t) { return t.to(torch::kFloat32).contiguous(); };
  torch::Tensor left = w.to(torch::kFloat32, false, /*copy=*/true).contiguous();
  torch::Tensor codes = at::empty_like(left);
  const torch::Tensor scales = ready(grid.scales), zeros = ready(grid.zeros);
  const torch::Tensor inputs = ready(of_inputs), outputs = ready(of_outputs);
  std::vector<float> row(static_cast<size_t>(n));
  for (int64_t i = 0; i < m; ++i) {
    float* const target = left.mutable_data_ptr<float>() + i * n;
    float* const code = codes.mutable_data_ptr<float>() + i * n;
    const float* const s = scales.const_data_ptr<float>() + i * scales.size(1);
    const float* const z = zeros.const_data_ptr<float>() + i * zeros.size(1);
    std::copy_n(target, n, row.data());
    for (int64_t j = 0; j < n; ++j) {
      const int64_t g = j / group;
      code[j] =
          std::clamp(std::nearbyint(row[static_cast<size_t>(j)] / s[g] + z[g]), 0.0F, highest);
      const float stored = s[g] * (code[j] - z[g]), error = row[static_cast<size_t>(j)] - stored;
      const float* const reach = inputs.const_data_ptr<float>() + j * n;
      for (int64_t k = j + 1; k < n; ++k) row[static_cast<size_t>(k)] -= error * reach[k];
      target[j] -= stored;  // becomes what the row loses
    }
    if (i + 1 == m) break;
    left.narrow(0, i + 1, m - i - 1).addr_(outputs[i].narrow(0, i + 1, m - i - 1), left[i], 1, -1);
  }
  return codes;
}

}  // namespace schmidt::compress
