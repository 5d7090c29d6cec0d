#include "schmidt/tn/drift.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>

#include "schmidt/tn/moment_norm.h"

namespace schmidt::tn {
namespace {

/// Beyond, float64 moments would hold twice the memory and take hours to factorize.
constexpr int64_t kWideColumns = 2048;

RidgeSolver checked_solver(const torch::Tensor& cross, const torch::Tensor& moments,
                           const DriftOptions& options) {
  TORCH_CHECK_VALUE(cross.defined() && moments.defined(),
                    "[drift] expected both moments, got an undefined one");
  check_norm("drift", cross, {.input = moments});
  TORCH_CHECK_VALUE(options.beta >= 0 && options.beta <= 1, "[drift] expected beta in [0, 1], got ",
                    options.beta);
  TORCH_CHECK_VALUE(options.ridge > 0 && std::isfinite(options.ridge),
                    "[drift] expected a ridge above 0, got ", options.ridge);
  const bool wide = moments.scalar_type() == at::kDouble || moments.size(0) <= kWideColumns;
  return {moments.to(wide ? at::kDouble : at::kFloat), options.ridge};
}

}  // namespace

DriftMap::DriftMap(torch::Tensor cross, torch::Tensor moments, const DriftOptions& options)
    : cross_(std::move(cross)),
      moments_(std::move(moments)),
      beta_(options.beta),
      solver_(checked_solver(cross_, moments_, options)) {}

torch::Tensor DriftMap::apply(const torch::Tensor& rows) const {
  check_norm("drift", rows, {.input = moments_});
  const at::NoGradGuard no_grad;
  const auto dtype = rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto computed = solver_.dtype();
  const torch::Tensor wide = rows.to(computed);
  const torch::Tensor drift =  // rows (cross - G') [k, n]
      at::mm(wide, cross_.to(computed)) - at::mm(wide, moments_.to(computed));
  return (wide + beta_ * solver_.solve(drift.t()).t()).to(dtype).contiguous();
}

}  // namespace schmidt::tn
