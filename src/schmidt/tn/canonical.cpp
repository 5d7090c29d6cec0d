#include "schmidt/tn/canonical.h"

#include <ATen/ops/linalg_qr.h>
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

}  // namespace schmidt::tn
