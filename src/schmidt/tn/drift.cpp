#include "schmidt/tn/drift.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>

#include "schmidt/tn/metric.h"
#include "schmidt/tn/positive.h"

namespace schmidt::tn {

torch::Tensor drift_target(const torch::Tensor& w, const torch::Tensor& cross,
                           const torch::Tensor& moments, const DriftOptions& options) {
  TORCH_CHECK_VALUE(cross.defined() && moments.defined(),
                    "[drift_target] expected both moments, got an undefined one");
  check_metric("drift_target", w, {.input = moments});
  check_metric("drift_target", w, {.input = cross});
  TORCH_CHECK_VALUE(options.beta >= 0 && options.beta <= 1,
                    "[drift_target] expected beta in [0, 1], got ", options.beta);
  TORCH_CHECK_VALUE(options.ridge > 0 && std::isfinite(options.ridge),
                    "[drift_target] expected a ridge above 0, got ", options.ridge);
  at::NoGradGuard no_grad;
  const auto dtype = w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const torch::Tensor g = moments.to(at::kDouble);
  const torch::Tensor drift = at::mm(w.to(at::kDouble), cross.to(at::kDouble) - g);  // [m, n]
  const torch::Tensor change = RidgeSolver(g, options.ridge).solve(drift.t()).t();
  return (w.to(at::kDouble) + options.beta * change).to(dtype).contiguous();
}

}  // namespace schmidt::tn
