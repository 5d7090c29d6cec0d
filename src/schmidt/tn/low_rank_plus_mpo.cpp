#include "schmidt/tn/low_rank_plus_mpo.h"

#include <algorithm>
#include <limits>

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

LowRankPlusMpo low_rank_plus_mpo(const torch::Tensor& w, const MomentNorm& norm,
                                 const LowRankPlusMpoOptions& options) {
  check_norm("low_rank_plus_mpo", w, norm);
  parameter_count(options.shape, options.bonds);  // throws where they do not fit each other
  at::NoGradGuard no_grad;
  const torch::Tensor target = w.to(w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const LowRankOptions low_rank{.rank = options.rank};
  const FactorizeOptions mpo{.shape = options.shape, .max_bonds = options.bonds};

  LowRank first = weighted_low_rank(target, norm, low_rank);
  const torch::Tensor rest = target - at::mm(first.left, first.right);
  first.relative_error = weighted_error(target, target - rest, norm);
  const double low_rank_error = first.relative_error;
  LowRankPlusMpo sum{first,
                     zeros(options.shape, options.bonds, target.options()),
                     low_rank_error,
                     {low_rank_error}};
  if (low_rank_error == 0) return sum;

  // Where weighted_tt_svd begins is far off: without a round of its own the MPO makes both
  // together worse than the low rank alone.
  GaussNewtonOptions own_round = options.fit;
  own_round.rounds = std::min<int64_t>(1, options.fit.rounds);
  own_round.to_beat = std::numeric_limits<double>::infinity();
  const Mpo second =
      gauss_newton(rest, {weighted_tt_svd(rest, mpo, norm).mpo}, norm, own_round).terms[0];
  const GaussNewtonResult found = gauss_newton(target, {to_mpo(first), second}, norm, options.fit);
  sum.errors.insert(sum.errors.end(), found.errors.begin(), found.errors.end());
  sum.gave_up = found.gave_up;
  if (found.relative_error < low_rank_error) {
    const std::vector<torch::Tensor>& cores = found.terms[0].cores();
    sum.low_rank = {cores[0].flatten(0, 2), cores[1].flatten(1), found.relative_error};
    sum.mpo = found.terms[1];
    sum.relative_error = found.relative_error;
  }
  return sum;
}

}  // namespace schmidt::tn
