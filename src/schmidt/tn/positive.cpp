#include "schmidt/tn/positive.h"

#include <ATen/ops/cholesky_solve.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

namespace schmidt::tn {
namespace {

constexpr double kRootRounding = 1e-13;

}  // namespace

PositiveRoot positive_root(const torch::Tensor& a) {
  TORCH_INTERNAL_ASSERT(a.dim() == 2 && a.scalar_type() == at::kDouble);
  const auto [values, vectors] = at::linalg_eigh(a);
  const int64_t n = a.size(0);
  const double largest = values[n - 1].item<double>();
  if (largest <= 0) {
    const torch::Tensor none = at::zeros({n, 1}, a.options());
    return {none, none};
  }
  const int64_t below = (values <= kRootRounding * largest).sum().item<int64_t>();
  const torch::Tensor roots = values.slice(0, below).sqrt(), kept = vectors.slice(1, below);
  return {kept * roots, kept / roots};
}

RidgeSolver::RidgeSolver(torch::Tensor a, double ridge) {
  const double mean = a.diagonal().mean().item<double>();
  a = a.clone();
  const double shift = mean > 0 ? ridge * mean : 1.0;
  a.diagonal().add_(shift);
  const auto [factor, info] = at::linalg_cholesky_ex(a);
  if (info.item<int64_t>() == 0) {
    cholesky_ = factor;
    return;
  }
  const auto [values, vectors] = at::linalg_eigh(a);
  vectors_ = vectors;
  inverses_ = values.clamp_min(shift).reciprocal().unsqueeze(1);
}

torch::Tensor RidgeSolver::solve(const torch::Tensor& b) const {
  if (cholesky_.defined()) return at::cholesky_solve(b, cholesky_);
  return at::mm(vectors_, inverses_ * at::mm(vectors_.t(), b));
}

}  // namespace schmidt::tn
