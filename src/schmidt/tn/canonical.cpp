#include "schmidt/tn/canonical.h"

#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/mm.h>

namespace schmidt::tn {
namespace {

/// Makes `core` [a, m, n, b] orthonormal from the left and passes what remains on
/// to `next`, its right neighbour.
void push_right(torch::Tensor& core, torch::Tensor& next) {
  const auto [q, r] = at::linalg_qr(core.flatten(0, 2));
  core = q.reshape({core.size(0), core.size(1), core.size(2), q.size(1)});
  next = at::mm(r, next.flatten(1)).reshape({q.size(1), next.size(1), next.size(2), next.size(3)});
}

/// The mirror image.
void push_left(torch::Tensor& core, torch::Tensor& next) {
  const auto [q, r] = at::linalg_qr(core.flatten(1).t());
  core = q.t().reshape({q.size(1), core.size(1), core.size(2), core.size(3)});
  next = at::mm(next.flatten(0, 2), r.t())
             .reshape({next.size(0), next.size(1), next.size(2), q.size(1)});
}

/// Relative singular values below which a direction counts as one of this size.
constexpr double kFaint = 1e-7;
constexpr double kTiny = 1e-150;  // of a zero matrix

}  // namespace

Mpo canonicalize(const Mpo& mpo, int64_t centre) {
  std::vector<torch::Tensor> cores = mpo.cores();
  const int64_t sites = static_cast<int64_t>(cores.size());
  TORCH_CHECK_VALUE(centre >= 0 && centre < sites, "[canonicalize] expected a site in 0 .. ",
                    sites - 1, ", got ", centre);
  const bool half = cores[0].scalar_type() != at::kFloat && cores[0].scalar_type() != at::kDouble;
  if (half) {
    for (torch::Tensor& core : cores) core = core.to(at::kFloat);
  }
  for (int64_t k = 0; k < centre; ++k) push_right(cores[k], cores[k + 1]);
  for (int64_t k = sites - 1; k > centre; --k) push_left(cores[k], cores[k - 1]);
  for (torch::Tensor& core : cores) core = core.contiguous();
  return Mpo(std::move(cores));
}

Mpo balance(const Mpo& mpo) {
  const torch::ScalarType dtype = mpo.cores()[0].scalar_type();
  std::vector<torch::Tensor> wide;
  for (const torch::Tensor& core : mpo.cores()) wide.push_back(core.to(at::kDouble));
  std::vector<torch::Tensor> cores = canonicalize(Mpo(std::move(wide)), 0).cores();
  std::vector<torch::Tensor> scales;  // x of each bond
  for (size_t k = 0; k + 1 < cores.size(); ++k) {
    torch::Tensor &core = cores[k], &next = cores[k + 1];
    const auto [u, s, vh] = at::linalg_svd(core.flatten(0, 2), /*full_matrices=*/false);
    const int64_t r = s.size(0);
    const torch::Tensor rest = at::mm(s.unsqueeze(1) * vh, next.flatten(1));
    next = rest.reshape({r, next.size(1), next.size(2), next.size(3)});
    // Any positive x keeps the matrix, x on this side and x^-1 on the other.
    const double least = std::max(kFaint * s[0].item<double>(), kTiny);
    const torch::Tensor x = s.clamp_min(least).sqrt();
    core = u.reshape({core.size(0), core.size(1), core.size(2), r}) * x;
    scales.push_back(x);
  }
  for (size_t k = 1; k < cores.size(); ++k) {
    cores[k] = cores[k] / scales[k - 1].view({-1, 1, 1, 1});
  }
  for (torch::Tensor& core : cores) core = core.to(dtype).contiguous();
  return Mpo(std::move(cores));
}

}  // namespace schmidt::tn
