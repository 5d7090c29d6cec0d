#include "schmidt/tn/factorize.h"

#include <cmath>
#include <functional>
#include <numeric>

#include <ATen/core/grad_mode.h>

#include "schmidt/tn/magnitude.h"
#include "schmidt/tn/truncated_svd.h"

namespace schmidt::tn {
namespace {

/// Below this tolerance squares of singular values, as a Gram matrix gives them,
/// are too coarse.
constexpr double kGramTolerance = 1e-6;

int64_t product(const std::vector<int64_t>& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

void check(const torch::Tensor& w, const FactorizeOptions& options) {
  const SiteShape& shape = options.shape;
  check_shape(shape);
  TORCH_CHECK_VALUE(w.dim() == 2 && w.is_floating_point(),
                    "[factorize] expected a floating-point matrix, got ", w.scalar_type(), " ",
                    w.sizes());
  TORCH_CHECK_VALUE(product(shape.out_dims) == w.size(0) && product(shape.in_dims) == w.size(1),
                    "[factorize] expected sites that multiply out to ", w.size(0), " x ", w.size(1),
                    ", got ", at::IntArrayRef(shape.out_dims), " x ",
                    at::IntArrayRef(shape.in_dims));
  TORCH_CHECK_VALUE(options.tolerance >= 0 && options.tolerance < 1,
                    "[factorize] expected a tolerance in [0, 1), got ", options.tolerance);
  if (!options.max_bonds) return;
  TORCH_CHECK_VALUE(static_cast<int64_t>(options.max_bonds->size()) == shape.sites() - 1,
                    "[factorize] expected ", shape.sites() - 1, " maximum bonds, got ",
                    options.max_bonds->size());
  for (const int64_t bond : *options.max_bonds) {
    TORCH_CHECK_VALUE(bond >= 1, "[factorize] expected bonds of at least 1, got ", bond);
  }
}

/// [m, n] -> [m_1, n_1, m_2, n_2, ..], row-major.
torch::Tensor interleave(const torch::Tensor& w, const SiteShape& shape) {
  std::vector<int64_t> dims = shape.out_dims, order;
  dims.insert(dims.end(), shape.in_dims.begin(), shape.in_dims.end());
  for (int64_t k = 0; k < shape.sites(); ++k) {
    order.push_back(k);
    order.push_back(shape.sites() + k);
  }
  return w.reshape(dims).permute(order).contiguous();
}

}  // namespace

Factorization factorize(const torch::Tensor& w, const FactorizeOptions& options) {
  check(w, options);
  at::NoGradGuard no_grad;
  const double scale = largest_entry(w);
  TORCH_CHECK_VALUE(std::isfinite(scale), "[factorize] expected finite entries, got ", scale);

  const SiteShape& shape = options.shape;
  const auto dtype = w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const std::vector<int64_t> full = full_bonds(shape);

  // Entries of at most 1, so that no square overflows or vanishes.
  torch::Tensor rest = interleave(w, shape).to(at::kDouble);
  if (scale > 0) rest = rest / scale;
  const double total = rest.square().sum().item<double>();

  SvdTruncation truncation;
  truncation.double_accuracy =
      dtype == at::kDouble || (options.tolerance > 0 && options.tolerance < kGramTolerance);
  truncation.allowed = full.empty() ? 0.0
                                    : options.tolerance * options.tolerance * total /
                                          static_cast<double>(full.size());

  std::vector<torch::Tensor> cores;
  double dropped = 0;
  int64_t left_bond = 1;
  for (int64_t k = 0; k + 1 < shape.sites(); ++k) {
    const int64_t mk = shape.out_dims[k], nk = shape.in_dims[k];
    truncation.max_rank = options.max_bonds ? (*options.max_bonds)[k] : full[k];
    TruncatedSvd cut = truncated_svd(rest.reshape({left_bond * mk * nk, -1}), truncation);
    const int64_t bond = cut.left.size(1);
    cores.push_back(cut.left.reshape({left_bond, mk, nk, bond}).to(dtype).contiguous());
    dropped += cut.dropped;
    rest = std::move(cut.right);
    left_bond = bond;
  }
  rest = rest.reshape({left_bond, shape.out_dims.back(), shape.in_dims.back(), 1});
  cores.push_back((rest * scale).to(dtype).contiguous());
  return {Mpo(std::move(cores)), total > 0 ? std::sqrt(dropped / total) : 0.0};
}

}  // namespace schmidt::tn
