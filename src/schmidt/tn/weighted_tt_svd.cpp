#include "schmidt/tn/weighted_tt_svd.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/mm.h>

#include "schmidt/tn/moment_norm.h"

namespace schmidt::tn {
namespace {

/// Symmetric roots of one site's moments.
struct SiteRoot {
  torch::Tensor root, inverse;  // [d, d]; undefined: identity
};

/// Directions of no weight get a little, so that the inverse exists.
SiteRoot site_root(const torch::Tensor& moments, double floor) {
  const auto [values, vectors] = at::linalg_eigh(moments);
  const double largest = values[-1].item<double>();
  if (largest <= 0) return {};
  const torch::Tensor roots = values.clamp_min(floor * largest).sqrt();
  return {at::mm(vectors * roots, vectors.t()), at::mm(vectors / roots, vectors.t())};
}

std::vector<SiteRoot> site_roots(const torch::Tensor& moments, const std::vector<int64_t>& dims,
                                 double floor) {
  std::vector<SiteRoot> roots;
  for (const torch::Tensor& site : site_moments(moments, dims)) {
    roots.push_back(site_root(site, floor));
  }
  roots.resize(dims.size());
  return roots;
}

/// a [d, d] on dimension `leg` of t.
torch::Tensor on_leg(const torch::Tensor& a, const torch::Tensor& t, int64_t leg) {
  if (!a.defined()) return t;
  const torch::Tensor front = t.movedim(leg, 0);
  return at::mm(a, front.flatten(1)).reshape(front.sizes()).movedim(0, leg);
}

}  // namespace

std::vector<torch::Tensor> site_moments(const torch::Tensor& moments,
                                        const std::vector<int64_t>& dims) {
  if (!moments.defined()) return {};
  std::vector<torch::Tensor> sites;
  int64_t left = 1, right = moments.size(0);
  for (const int64_t d : dims) {
    right /= d;
    const torch::Tensor trace = moments.reshape({left, d, right, left, d, right})
                                    .diagonal(0, 0, 3)  // [d, right, d, right, left]
                                    .diagonal(0, 1, 3)  // [d, d, left, right]
                                    .sum({2, 3}, false, at::kDouble);
    const double scale = trace.diagonal().mean().item<double>();
    sites.push_back(scale > 0 ? trace / scale : trace);
    left *= d;
  }
  return sites;
}

Factorization weighted_tt_svd(const torch::Tensor& w, const FactorizeOptions& options,
                              const MomentNorm& norm) {
  check_norm("weighted_tt_svd", w, norm);
  const SiteShape& shape = options.shape;
  check_shape(shape);
  at::NoGradGuard no_grad;
  if (!norm.input.defined() && !norm.output.defined()) return factorize(w, options);

  const bool is_double = w.scalar_type() == at::kDouble;
  const auto dtype = is_double ? at::kDouble : at::kFloat;
  const double floor = is_double ? 1e-12 : 1e-8;
  int64_t out = 1, in = 1;
  for (const int64_t d : shape.out_dims) out *= d;
  for (const int64_t d : shape.in_dims) in *= d;
  TORCH_CHECK_VALUE(out == w.size(0) && in == w.size(1),
                    "[weighted_tt_svd] expected sites that multiply out to ", w.size(0), " x ",
                    w.size(1), ", got ", at::IntArrayRef(shape.out_dims), " x ",
                    at::IntArrayRef(shape.in_dims));
  const std::vector<SiteRoot> outs = site_roots(norm.output, shape.out_dims, floor);
  const std::vector<SiteRoot> ins = site_roots(norm.input, shape.in_dims, floor);
  const int64_t sites = shape.sites();

  std::vector<int64_t> legs = shape.out_dims;
  legs.insert(legs.end(), shape.in_dims.begin(), shape.in_dims.end());
  torch::Tensor whitened = w.to(at::kDouble).reshape(legs);
  for (int64_t k = 0; k < sites; ++k) {
    whitened = on_leg(outs[k].root, whitened, k);
    whitened = on_leg(ins[k].root, whitened, sites + k);
  }
  const Factorization cut = factorize(whitened.reshape(w.sizes()).to(dtype), options);
  std::vector<torch::Tensor> cores;
  for (int64_t k = 0; k < sites; ++k) {
    torch::Tensor core = cut.mpo.cores()[k].to(at::kDouble);
    core = on_leg(ins[k].inverse, on_leg(outs[k].inverse, core, 1), 2);
    cores.push_back(core.to(dtype).contiguous());
  }
  Mpo mpo(std::move(cores));
  const double error = weighted_error(w, mpo.to_dense(), norm);
  return {std::move(mpo), error};
}

}  // namespace schmidt::tn
