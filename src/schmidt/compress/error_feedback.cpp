#include "schmidt/compress/error_feedback.h"

#include <algorithm>

#include <ATen/ops/empty_like.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>

namespace schmidt::compress {
namespace {

/// Columns whose errors reach those after them in one product.
constexpr int64_t kBlock = 64;

torch::Tensor feedback_of(const torch::Tensor& moments, double damping) {
  const int64_t n = moments.size(0);
  const double mean = moments.diagonal().mean().item<double>();
  if (!(mean > 0)) return at::eye(n, moments.options().dtype(torch::kFloat32));
  const auto [values, vectors] = at::linalg_eigh(moments.to(torch::kFloat64));
  const torch::Tensor damped = values.clamp_min(0) + damping * mean;
  // R^T R = G^{-1} of the R that orthogonal columns leave of D^{-1/2} V^T.
  const torch::Tensor r =
      std::get<1>(at::linalg_qr((vectors * damped.rsqrt()).t().contiguous(), "r"));
  return (r / r.diagonal().unsqueeze(1)).to(torch::kFloat32).contiguous();
}

}  // namespace

ErrorFeedback::ErrorFeedback(const torch::Tensor& moments, double damping)
    : feedback_(feedback_of(moments, damping)) {}

torch::Tensor ErrorFeedback::codes(const torch::Tensor& w, const IntegerGrid& grid) const {
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
      const torch::Tensor reach = feedback_[j].narrow(0, j + 1, end - j - 1);
      block.narrow(0, i + 1, columns - i - 1).addr_(reach, error, 1, -1);
    }
    if (end == n) break;
    left.narrow(0, end, n - end)
        .addmm_(feedback_.narrow(0, begin, columns).narrow(1, end, n - end).t(), block, 1, -1);
  }
  return codes.t().contiguous();
}

}  // namespace schmidt::compress
