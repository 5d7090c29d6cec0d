#include "schmidt/calibrate/gradient_moments.h"

#include <cmath>
#include <tuple>

#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_solve_triangular.h>

#include "schmidt/calibrate/symmetric.h"
#include "schmidt/tn/block_krylov.h"
#include "schmidt/tn/magnitude.h"

namespace schmidt::calibrate {
namespace {

/// Relative eigenvalues below which a direction is rounding.
double negligible(torch::ScalarType dtype) { return dtype == torch::kFloat64 ? 1e-12 : 1e-6; }

/// R R^T = A.
struct Root {
  torch::Tensor root;  ///< [k, k]
  bool triangular;     ///< lower, by Cholesky; false: by eigenvalues, where A is singular
};

Root root_of(const torch::Tensor& a) {
  const auto [factor, info] = at::linalg_cholesky_ex(a);
  if (info.item<int64_t>() == 0) return {factor, true};
  const auto [values, vectors] = at::linalg_eigh(a);
  return {vectors * values.clamp_min(0).sqrt(), false};
}

/// R^T B R, of which decompositions read the lower triangle.
torch::Tensor congruence(const Root& root, const torch::Tensor& b) {
  const torch::Tensor& r = root.root;
  return root.triangular ? lower_congruence(r, b) : at::matmul(r.t(), at::matmul(b, r));
}

/// U^T R^{-1}, R lower triangular.
torch::Tensor through_inverse(const torch::Tensor& u, const torch::Tensor& root) {
  return at::linalg_solve_triangular(root, u.t(), /*upper=*/false, /*left=*/false);
}

Modes modes_of(const Root& root, const torch::Tensor& b) {
  const torch::Tensor& r = root.root;
  const auto [ascending, vectors] = at::linalg_eigh(congruence(root, b));
  const torch::Tensor squares = ascending.flip(0).clamp_min(0);
  const torch::Tensor u = vectors.flip(1), q = at::matmul(r, u);
  if (root.triangular) return {squares, q, through_inverse(u, r)};
  const torch::Tensor kept = squares > negligible(b.scalar_type()) * squares[0];
  const torch::Tensor inverse = at::where(kept, squares.reciprocal(), at::zeros_like(squares));
  return {squares, q, inverse.unsqueeze(1) * at::matmul(q.t(), b)};
}

}  // namespace

GradientMoments GradientMoments::to(const torch::Device& device) const {
  GradientMoments moved = *this;
  moved.moments = moments.to(device);
  if (outputs.defined()) moved.outputs = outputs.to(device);
  return moved;
}

torch::ScalarType solve_dtype(int64_t size, torch::ScalarType given) {
  return size <= 2048 || given == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

torch::Tensor with_ridge(const torch::Tensor& matrix, double share) {
  torch::Tensor result = matrix.clone();
  result.diagonal().add_(share * matrix.diagonal().mean().item<double>());
  return result;
}

torch::Tensor output_moments(const GradientMoments& gradient, double damping) {
  const torch::Tensor& h = gradient.pulled_back ? gradient.outputs : gradient.moments;
  if (!h.defined()) return h;
  torch::Tensor result = h.clone();
  result.diagonal().add_(damping * gradient.mean_square);
  return result;
}

Modes weighted_modes(const torch::Tensor& a, const torch::Tensor& b) {
  const auto dtype = solve_dtype(a.size(0), a.scalar_type());
  return modes_of(root_of(a.to(dtype)), b.to(dtype));
}

Projector leading_projector(const torch::Tensor& a, const torch::Tensor& b, int64_t rank) {
  const auto dtype = solve_dtype(a.size(0), a.scalar_type());
  const Root root = root_of(a.to(dtype));
  const torch::Tensor wide_b = b.to(dtype);
  if (root.triangular && tn::krylov_is_faster(rank, a.size(0))) {
    // R^T B R is W G W^T for W = R^T, G = B.
    if (const auto space =
            tn::leading_space({root.root.t().contiguous(), wide_b}, {.rank = rank})) {
      return {at::matmul(root.root, space->basis), through_inverse(space->basis, root.root)};
    }
  }
  const Modes modes = modes_of(root, wide_b);
  const int64_t kept = std::min(rank, modes.squares.size(0));
  return {modes.q.narrow(1, 0, kept), modes.dual.narrow(0, 0, kept)};
}

torch::Tensor weighted_squares(const torch::Tensor& a, const torch::Tensor& b) {
  const auto dtype = solve_dtype(a.size(0), a.scalar_type());
  return at::linalg_eigvalsh(congruence(root_of(a.to(dtype)), b.to(dtype)))
      .flip(0)
      .clamp_min(0)
      .to(torch::kFloat64);
}

NormPair norm_pair(const torch::Tensor& weight, const tn::DriftMap* drift,
                   const torch::Tensor& input_moments, const GradientMoments& gradient,
                   double damping, double ridge) {
  const auto dtype = solve_dtype(std::min(weight.size(0), weight.size(1)), weight.scalar_type());
  const torch::Tensor w = weight.to(dtype);
  const torch::Tensor target = drift != nullptr ? drift->apply(w) : w;
  const double floor = damping * gradient.mean_square;
  if (gradient.pulled_back) {
    torch::Tensor s = gradient.moments.to(dtype) + floor * symmetric_product(w.t(), w);
    // T^T S T, by two maps of rows: S T, then T^T (S T) as the transpose of (S T)^T T.
    if (drift != nullptr) s = drift->apply(drift->apply(s).t()).t();
    return {with_ridge(input_moments, ridge).to(dtype), s, target};
  }
  const torch::Tensor h = output_moments(gradient, damping).to(dtype);
  // M (G + ridge) M^T, M the target, without a copy of G, the larger side's.
  const double shift = ridge * input_moments.diagonal().mean().item<double>();
  const torch::Tensor mg = at::matmul(target, input_moments.to(dtype)) + shift * target;
  return {h, symmetric_product(mg, target.t()), target};
}

void check_finite_moments(const std::string& layer, const torch::Tensor& moments) {
  TORCH_CHECK_VALUE(!moments.defined() || std::isfinite(tn::largest_entry(moments)), "[", layer,
                    "] expected finite second moments on the calibration text, got NaN or "
                    "infinity: the model's activations or gradients overflow");
}

}  // namespace schmidt::calibrate
