#include "schmidt/tn/drift.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/mm.h>

#include "schmidt/tn/moment_norm.h"

namespace schmidt::tn {
namespace {

/// Beyond, float64 moments would hold twice the memory and take hours to factorize.
constexpr int64_t kWideColumns = 2048;

void check(const torch::Tensor& cross, const torch::Tensor& moments, const DriftOptions& options) {
  TORCH_CHECK_VALUE(cross.defined() && moments.defined(),
                    "[drift] expected both moments, got an undefined one");
  check_norm("drift", cross, {.input = moments});
  TORCH_CHECK_VALUE(options.beta >= 0 && options.beta <= 1, "[drift] expected beta in [0, 1], got ",
                    options.beta);
  TORCH_CHECK_VALUE(options.ridge > 0 && std::isfinite(options.ridge),
                    "[drift] expected a ridge above 0, got ", options.ridge);
}

}  // namespace

DriftMap::DriftMap(torch::Tensor cross, torch::Tensor moments, const DriftOptions& options)
    : moments_(std::move(moments)), beta_(options.beta), ridge_(options.ridge) {
  check(cross, moments_, options);
  const bool wide = moments_.scalar_type() == at::kDouble || moments_.size(0) <= kWideColumns;
  const auto dtype = wide ? at::kDouble : at::kFloat;
  difference_ = cross.to(dtype) - moments_.to(dtype);
}

const RidgeSolver& DriftMap::solver() const {
  if (!solver_) solver_.emplace(moments_.to(difference_.scalar_type()), ridge_);
  return *solver_;
}

/// beta D G'^{-1}, D rows (cross - G'): what T adds to rows.
torch::Tensor DriftMap::change(const torch::Tensor& differences) const {
  return beta_ * solver().solve(differences.t()).t();
}

torch::Tensor DriftMap::apply(const torch::Tensor& rows) const {
  check_norm("drift", rows, {.input = moments_});
  const at::NoGradGuard no_grad;
  const auto dtype = rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto computed = difference_.scalar_type();
  const torch::Tensor wide = rows.to(computed);
  // A product with T takes a third of the work of solving for each row.
  if (wide.size(0) < difference_.size(0)) {
    return (wide + change(at::mm(wide, difference_))).to(dtype).contiguous();
  }
  if (!map_.defined()) {
    map_ = at::eye(difference_.size(0), difference_.options()) + change(difference_);
  }
  return at::mm(wide, map_).to(dtype).contiguous();
}

}  // namespace schmidt::tn
