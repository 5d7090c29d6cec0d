#include "schmidt/tn/mpo.h"

#include <ATen/ops/zeros.h>

#include "schmidt/kernels/linear.h"
#include "schmidt/tn/contraction.h"

namespace schmidt::tn {
namespace {

int64_t product_of(const std::vector<torch::Tensor>& cores, int64_t leg) {
  int64_t product = 1;
  for (const torch::Tensor& core : cores) product *= core.size(leg);
  return product;
}

std::vector<int64_t> sizes_of(const std::vector<torch::Tensor>& cores, int64_t leg) {
  std::vector<int64_t> sizes;
  sizes.reserve(cores.size());
  for (const torch::Tensor& core : cores) sizes.push_back(core.size(leg));
  return sizes;
}

/// (m, 1) x (1, n), met from the right: two plain products, whose gradients need
/// no more than the library keeps.
bool is_low_rank(const std::vector<torch::Tensor>& cores, const ContractionPlan& plan) {
  return cores.size() == 2 && cores[0].size(2) == 1 && cores[1].size(1) == 1 &&
         plan.spans == std::vector<CoreSpan>{{1, 2}, {0, 1}};
}

}  // namespace

Mpo::Mpo(std::vector<torch::Tensor> cores) : cores_(std::move(cores)) {
  TORCH_CHECK_VALUE(!cores_.empty(), "[Mpo] expected at least one core, got none");
  for (size_t k = 0; k < cores_.size(); ++k) {
    const torch::Tensor& core = cores_[k];
    TORCH_CHECK_VALUE(core.defined() && core.dim() == 4 && core.numel() > 0, "[Mpo] expected core ",
                      k, " as [bond_left, out, in, bond_right], got ",
                      core.defined() ? core.sizes() : at::IntArrayRef());
    TORCH_CHECK_VALUE(core.is_floating_point() && core.scalar_type() == cores_[0].scalar_type() &&
                          core.device() == cores_[0].device(),
                      "[Mpo] expected cores of one floating-point dtype and device, got ",
                      cores_[0].scalar_type(), " on ", cores_[0].device(), " and ",
                      core.scalar_type(), " on ", core.device());
    const int64_t left = k == 0 ? 1 : cores_[k - 1].size(3);
    TORCH_CHECK_VALUE(core.size(0) == left, "[Mpo] expected a left bond of ", left, " at core ", k,
                      ", got ", core.size(0));
  }
  TORCH_CHECK_VALUE(cores_.back().size(3) == 1,
                    "[Mpo] expected a right bond of 1 at the last core, got ",
                    cores_.back().size(3));
}

SiteShape Mpo::shape() const { return {out_dims(), in_dims()}; }
std::vector<int64_t> Mpo::out_dims() const { return sizes_of(cores_, 1); }
std::vector<int64_t> Mpo::in_dims() const { return sizes_of(cores_, 2); }

std::vector<int64_t> Mpo::bonds() const {
  std::vector<int64_t> bonds = sizes_of(cores_, 3);
  bonds.pop_back();
  return bonds;
}

int64_t Mpo::rows() const { return product_of(cores_, 1); }
int64_t Mpo::cols() const { return product_of(cores_, 2); }

int64_t Mpo::numel() const {
  int64_t total = 0;
  for (const torch::Tensor& core : cores_) total += core.numel();
  return total;
}

torch::Tensor Mpo::apply(const torch::Tensor& x, const ContractionOptions& options) const {
  const int64_t m = rows(), n = cols();
  TORCH_CHECK_VALUE(x.dim() >= 1 && x.size(-1) == n, "[Mpo::apply] expected x [..., ", n, "], got ",
                    x.sizes());
  TORCH_CHECK_VALUE(x.scalar_type() == cores_[0].scalar_type() && x.device() == cores_[0].device(),
                    "[Mpo::apply] expected x in the cores' dtype and device, ",
                    cores_[0].scalar_type(), " on ", cores_[0].device(), ", got ", x.scalar_type(),
                    " on ", x.device());
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = m;
  if (x.numel() == 0) return at::zeros(sizes, x.options());
  const ContractionPlan plan = plan_contraction(shape(), bonds(), x.numel() / n, options);
  if (is_low_rank(cores_, plan)) {
    const int64_t r = cores_[0].size(3);
    return kernels::linear(kernels::linear(x, cores_[1].reshape({r, n})),
                           cores_[0].reshape({m, r}));
  }
  return contract(cores_, x.reshape({-1, n}), plan).reshape(sizes);
}

torch::Tensor Mpo::to_dense() const {
  return merge_cores(cores_, {0, static_cast<int64_t>(cores_.size())}).reshape({rows(), cols()});
}

}  // namespace schmidt::tn
