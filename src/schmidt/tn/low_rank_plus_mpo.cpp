#include "schmidt/tn/low_rank_plus_mpo.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "schmidt/tn/weighted_tt_svd.h"

namespace schmidt::tn {
namespace {

Mpo zeros(const SiteShape& shape, const std::vector<int64_t>& largest,
          const torch::TensorOptions& options) {
  const std::vector<int64_t> full = full_bonds(shape);
  std::vector<torch::Tensor> cores;
  int64_t left = 1;
  for (int64_t k = 0; k < shape.sites(); ++k) {
    const int64_t right = k + 1 < shape.sites() ? std::min(full[k], largest[k]) : 1;
    cores.push_back(at::zeros({left, shape.out_dims[k], shape.in_dims[k], right}, options));
    left = right;
  }
  return Mpo(std::move(cores));
}

}  // namespace

LowRankPlusMpo low_rank_plus_mpo(const torch::Tensor& w, const Metric& metric,
                                 const LowRankPlusMpoOptions& options) {
  check_metric("low_rank_plus_mpo", w, metric);
  parameter_count(options.shape, options.bonds);  // throws where they do not fit each other
  TORCH_CHECK_VALUE(options.rounds >= 0, "[low_rank_plus_mpo] expected rounds >= 0, got ",
                    options.rounds);
  at::NoGradGuard no_grad;
  const torch::Tensor target = w.to(w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const LowRankOptions low_rank{.rank = options.rank};
  const FactorizeOptions mpo{.shape = options.shape, .max_bonds = options.bonds};

  LowRank first = weighted_low_rank(target, metric, low_rank);
  first.relative_error = weighted_error(target, at::mm(first.left, first.right), metric);
  Mpo second = zeros(options.shape, options.bonds, target.options());
  LowRankPlusMpo best{first, second, first.relative_error, {first.relative_error}};
  for (int64_t round = 0; round < options.rounds && best.relative_error > 0; ++round) {
    const torch::Tensor rest = target - at::mm(first.left, first.right);
    // M starts from the first remainder, then from itself.
    const Mpo start = round == 0 ? weighted_tt_svd(rest, mpo, metric).mpo : second;
    second = als(rest, start, metric, options.als).mpo;
    const torch::Tensor dense = second.to_dense();
    first = weighted_low_rank(target - dense, metric, low_rank);
    const double error = weighted_error(target, at::mm(first.left, first.right) + dense, metric);
    const double before = best.relative_error;
    best.errors.push_back(error);
    if (error < before) {
      first.relative_error = error;
      best.low_rank = first;
      best.mpo = second;
      best.relative_error = error;
    }
    if (!(error < before * (1 - options.tolerance))) break;
  }
  return best;
}

}  // namespace schmidt::tn
