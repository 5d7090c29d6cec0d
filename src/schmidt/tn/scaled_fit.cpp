#include "schmidt/tn/scaled_fit.h"

#include <cmath>

#include "schmidt/tn/magnitude.h"

namespace schmidt::tn {
namespace {

torch::Tensor normalized(const torch::Tensor& t, torch::ScalarType dtype) {
  return t.defined() ? t.to(dtype) / unit_of(t) : t;
}

torch::Tensor regularized(const torch::Tensor& moments) {
  if (!moments.defined()) return moments;
  const double share = moments.scalar_type() == at::kDouble ? 1e-8 : 1e-6;
  torch::Tensor result = moments.clone();
  result.diagonal().add_(share * moments.diagonal().mean().item<double>());
  return result;
}

/// `scale` times the matrix.
Mpo times(const Mpo& mpo, double scale, torch::ScalarType dtype) {
  std::vector<torch::Tensor> cores;
  for (const torch::Tensor& core : mpo.cores()) cores.push_back(core.to(dtype));
  cores[0] = cores[0] * scale;
  return Mpo(std::move(cores));
}

}  // namespace

ScaledFit::ScaledFit(const torch::Tensor& w, const MomentNorm& norm, torch::ScalarType dtype)
    : target(normalized(w, dtype)),
      weights{normalized(norm.input, dtype), normalized(norm.output, dtype)},
      solvable{regularized(weights.input), regularized(weights.output)},
      unit(unit_of(w)),
      squared_norm(tn::squared_norm(target, weights)) {}

double ScaledFit::error(const torch::Tensor& gap) const {
  return squared_norm > 0 ? std::sqrt(tn::squared_norm(gap, weights) / squared_norm) : 0.0;
}

Mpo ScaledFit::scaled(const Mpo& mpo) const { return times(mpo, 1 / unit, target.scalar_type()); }

Mpo ScaledFit::restored(const Mpo& mpo, torch::ScalarType dtype) const {
  return times(mpo, unit, dtype);
}

void check_fit(const char* caller, const torch::Tensor& w, const std::vector<Mpo>& start,
               const MomentNorm& norm) {
  check_norm(caller, w, norm);
  for (const Mpo& term : start) {
    TORCH_CHECK_VALUE(term.rows() == w.size(0) && term.cols() == w.size(1), "[", caller,
                      "] expected a start of ", w.size(0), " x ", w.size(1), ", got ", term.rows(),
                      " x ", term.cols());
    for (const torch::Tensor& core : term.cores()) {
      TORCH_CHECK_VALUE(std::isfinite(largest_entry(core)), "[", caller,
                        "] expected a finite start, got NaN or infinity");
    }
  }
}

}  // namespace schmidt::tn
