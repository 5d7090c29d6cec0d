#include "schmidt/tn/als.h"

#include <ATen/core/grad_mode.h>

#include "schmidt/tn/canonical.h"
#include "schmidt/tn/core_problem.h"
#include "schmidt/tn/scaled_fit.h"
#include "schmidt/tn/weighted_tt_svd.h"

namespace schmidt::tn {
namespace {

constexpr int64_t kDoubleEntries = int64_t{1} << 19;

void check(const torch::Tensor& w, const Mpo& start, const MomentNorm& norm,
           const AlsOptions& options) {
  check_fit("als", w, {start}, norm);
  TORCH_CHECK_VALUE(options.sweeps >= 0 && options.cg_steps >= 1 && options.ridge > 0,
                    "[als] expected sweeps >= 0, cg_steps >= 1 and a ridge above 0, got ",
                    options.sweeps, ", ", options.cg_steps, " and ", options.ridge);
}

/// Sites in the order of one sweep: 0 .. K-1, then back to 1.
std::vector<int64_t> sweep_order(int64_t sites) {
  std::vector<int64_t> order;
  for (int64_t k = 0; k < sites; ++k) order.push_back(k);
  for (int64_t k = sites - 2; k > 0; --k) order.push_back(k);
  return order;
}

/// The chain with core `site` moved to its optimum.
Mpo improved(const torch::Tensor& w, const Mpo& chain, int64_t site, const MomentNorm& norm,
             const AlsOptions& options) {
  std::vector<torch::Tensor> cores = canonicalize(chain, site).cores();
  const CoreProblem problem(cores, site, norm);
  const torch::Tensor gap = problem.right_side(w - problem.dense(cores[site]));
  const bool direct = !norm.output.defined() && problem.rows() <= options.direct_rows &&
                      gap.scalar_type() == at::kDouble;  // or the small ridge would be rounding
  cores[site] = cores[site] +
                (direct ? problem.solve_directly(gap, options.ridge)
                        : problem.solve_by_gradients(
                              gap, {.steps = options.cg_steps, .tolerance = options.cg_tolerance}));
  return Mpo(std::move(cores));
}

}  // namespace

AlsResult als(const torch::Tensor& w, const Mpo& start, const MomentNorm& norm,
              const AlsOptions& options) {
  check(w, start, norm, options);
  at::NoGradGuard no_grad;
  const auto stored = start.cores()[0].scalar_type();
  const bool wide = w.numel() <= kDoubleEntries;
  const auto dtype = w.scalar_type() == at::kDouble || wide ? at::kDouble : at::kFloat;
  const ScaledFit fit(w, norm, dtype);
  Mpo chain = fit.scaled(start);
  auto error_of = [&](const Mpo& mpo) { return fit.error(fit.target - mpo.to_dense()); };

  AlsResult result{start, error_of(chain), {}};
  result.errors.push_back(result.relative_error);
  for (int64_t sweep = 0; sweep < options.sweeps && result.relative_error > 0; ++sweep) {
    for (const int64_t site : sweep_order(chain.shape().sites())) {
      chain = improved(fit.target, chain, site, fit.solvable, options);
    }
    const double before = result.relative_error, error = error_of(chain);
    result.errors.push_back(error);
    if (error < result.relative_error) {
      result.mpo = fit.restored(chain, stored);
      result.relative_error = error;
    }
    if (!(error < before * (1 - options.tolerance))) break;
  }
  return result;
}

AlsResult weighted_mpo(const torch::Tensor& w, const FactorizeOptions& options,
                       const MomentNorm& norm, const AlsOptions& als_options) {
  return als(w, weighted_tt_svd(w, options, norm).mpo, norm, als_options);
}

}  // namespace schmidt::tn
