#include "schmidt/tn/subspace_iteration.h"

#include <limits>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>

namespace schmidt::tn {
namespace {

torch::Tensor times_metric(const torch::Tensor& g, const torch::Tensor& columns) {
  return g.defined() ? at::mm(g, columns) : columns;
}

/// Orthonormal [m, l] in the range of W G.
torch::Tensor random_range(const WeightedMatrix& matrix, int64_t columns) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{20240229});
  const torch::Tensor directions =
      at::randn({matrix.w.size(1), columns}, generator, at::TensorOptions(at::kFloat))
          .to(matrix.w.options());
  return std::get<0>(at::linalg_qr(at::mm(matrix.w, times_metric(matrix.g, directions))));
}

/// What is to come if every further gain is as much smaller than the last as that
/// one was than the one before it.
double expected_gain(double last, double previous) {
  const double ratio = previous > 0 ? std::clamp(last / previous, 0.0, 0.95) : 0.5;
  return last * ratio / (1 - ratio);
}

}  // namespace

std::optional<LeadingSpace> leading_space(const WeightedMatrix& matrix,
                                          const SubspaceOptions& options) {
  const int64_t m = matrix.w.size(0), n = matrix.w.size(1), r = options.rank;
  TORCH_INTERNAL_ASSERT(r >= 1 && r < std::min(m, n));
  const int64_t columns = std::min(std::min(m, n), r + std::max<int64_t>(16, r / 10));
  const double rounding = matrix.w.scalar_type() == at::kDouble
                              ? std::numeric_limits<double>::epsilon()
                              : std::numeric_limits<float>::epsilon();
  const double resolved = 1e3 * rounding * matrix.squared_norm;

  torch::Tensor basis = random_range(matrix, columns);
  double energy = 0, gain = 0;
  for (int64_t step = 0; step < options.steps; ++step) {
    const torch::Tensor projected = at::mm(matrix.w.t(), basis);       // [n, l]
    const torch::Tensor weighted = times_metric(matrix.g, projected);  // [n, l]
    const torch::Tensor ritz = at::mm(projected.t(), weighted).to(at::kDouble);
    const auto [values, vectors] = at::linalg_eigh(ritz);
    const double found = values.slice(0, columns - r).sum().item<double>();
    const double dropped = matrix.squared_norm - found;
    if (dropped < resolved) return std::nullopt;
    const double last_gain = found - energy;
    if (step > 0 && expected_gain(last_gain, step > 1 ? gain : 0) <= options.excess * dropped) {
      const torch::Tensor leading = vectors.slice(1, columns - r).flip(1).to(basis.scalar_type());
      return LeadingSpace{at::mm(basis, leading), at::mm(leading.t(), projected.t()), dropped};
    }
    gain = last_gain;
    energy = found;
    basis = std::get<0>(at::linalg_qr(at::mm(matrix.w, weighted)));
  }
  return std::nullopt;
}

}  // namespace schmidt::tn
