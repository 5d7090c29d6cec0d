#include "schmidt/tn/gauge.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "schmidt/kernels/interleave.h"
#include "schmidt/kernels/linear.h"
#include "schmidt/tn/canonical.h"
#include "schmidt/tn/magnitude.h"
#include "schmidt/tn/pivot_rows.h"

namespace schmidt::tn {
namespace {

void check_pivots(const torch::Tensor& pivots, int64_t r, int64_t rows, size_t cut) {
  TORCH_CHECK_VALUE(pivots.defined() && pivots.dim() == 1 && pivots.scalar_type() == at::kLong &&
                        pivots.device().is_cpu() && pivots.is_contiguous() && pivots.numel() == r,
                    "[GaugeFixed] expected pivots of bond ", cut, " as int64 [", r,
                    "] on the CPU, got ", pivots.defined() ? pivots.sizes() : at::IntArrayRef());
  const int64_t* const p = pivots.const_data_ptr<int64_t>();
  for (int64_t j = 0; j < r; ++j) {
    TORCH_CHECK_VALUE(p[j] >= (j == 0 ? 0 : p[j - 1] + 1) && p[j] < rows,
                      "[GaugeFixed] expected ascending pivots below ", rows, " at bond ", cut,
                      ", got ", p[j], " as number ", j);
  }
}

torch::Tensor apply_low_rank(const GaugeFixed& fixed, const torch::Tensor& x) {
  const torch::Tensor &others = fixed.cores[0], &last = fixed.cores[1];
  const int64_t m = fixed.shape.out_dims[0], n = fixed.shape.in_dims[1], r = last.size(0);
  const torch::Tensor chosen = kernels::linear(x, last.reshape({r, n}));  // [..., r]
  const kernels::ColumnOrder order(fixed.pivots[0], m);
  const kernels::Interleaved y{chosen, kernels::linear(chosen, others), &order};
  return kernels::interleave({&y, 1});
}

}  // namespace

bool is_low_rank(const GaugeFixed& fixed) {
  return fixed.shape.sites() == 2 && fixed.shape.in_dims[0] == 1 && fixed.shape.out_dims[1] == 1;
}

GaugeFixed fix_gauge(const Mpo& mpo) {
  at::NoGradGuard no_grad;
  const auto dtype = mpo.cores()[0].scalar_type();
  std::vector<torch::Tensor> exact;
  for (const torch::Tensor& core : mpo.cores()) {
    TORCH_CHECK_VALUE(std::isfinite(largest_entry(core)),
                      "[fix_gauge] expected finite cores, got NaN or infinity");
    exact.push_back(core.to(at::kDouble));
  }
  // From the right first: no bond is left beyond what either side can carry.
  std::vector<torch::Tensor> cores = canonicalize(Mpo(std::move(exact)), 0).cores();
  GaugeFixed result{mpo.shape(), {}, {}};
  for (size_t k = 0; k + 1 < cores.size(); ++k) {
    // Orthonormal columns are of full rank, whatever the rank of the bond.
    const auto [q, rest] = at::linalg_qr(cores[k].flatten(0, 2));
    const PivotRows rows = pivot_rows(q);
    const torch::Tensor passed = at::mm(q.index_select(0, rows.pivots), rest);  // [r_k, old r_k]
    torch::Tensor& next = cores[k + 1];
    next = at::mm(passed, next.flatten(1))
               .reshape({q.size(1), next.size(1), next.size(2), next.size(3)});
    result.cores.push_back(rows.others.to(dtype));
    result.pivots.push_back(rows.pivots.cpu());
  }
  result.cores.push_back(cores.back().to(dtype).contiguous());
  return result;
}

void check_gauge_fixed(const GaugeFixed& fixed) {
  const SiteShape& shape = fixed.shape;
  check_shape(shape);
  const size_t sites = shape.out_dims.size();
  TORCH_CHECK_VALUE(fixed.cores.size() == sites && fixed.pivots.size() + 1 == sites,
                    "[GaugeFixed] expected ", sites, " cores and ", sites - 1,
                    " sets of pivots, got ", fixed.cores.size(), " and ", fixed.pivots.size());
  int64_t left = 1;
  for (size_t k = 0; k + 1 < sites; ++k) {
    const torch::Tensor& core = fixed.cores[k];
    TORCH_CHECK_VALUE(core.defined() && core.dim() == 2 && core.size(1) >= 1,
                      "[GaugeFixed] expected core ", k, " as [other rows, bond], got ",
                      core.defined() ? core.sizes() : at::IntArrayRef());
    const int64_t rows = left * shape.out_dims[k] * shape.in_dims[k], r = core.size(1);
    TORCH_CHECK_VALUE(core.size(0) + r == rows, "[GaugeFixed] expected core ", k, " with ",
                      rows - r, " rows beside its pivots, got ", core.sizes());
    check_pivots(fixed.pivots[k], r, rows, k);
    left = r;
  }
  const torch::Tensor& last = fixed.cores.back();
  TORCH_CHECK_VALUE(
      last.defined() &&
          last.sizes() == at::IntArrayRef({left, shape.out_dims.back(), shape.in_dims.back(), 1}),
      "[GaugeFixed] expected the last core as [", left, ", ", shape.out_dims.back(), ", ",
      shape.in_dims.back(), ", 1], got ", last.defined() ? last.sizes() : at::IntArrayRef());
  for (const torch::Tensor& core : fixed.cores) {
    TORCH_CHECK_VALUE(core.is_floating_point() && core.scalar_type() == last.scalar_type() &&
                          core.device() == last.device(),
                      "[GaugeFixed] expected cores of one floating-point dtype and device, got ",
                      core.scalar_type(), " and ", last.scalar_type());
  }
}

Mpo free_gauge(const GaugeFixed& fixed) {
  check_gauge_fixed(fixed);
  std::vector<torch::Tensor> cores;
  int64_t left = 1;
  for (size_t k = 0; k + 1 < fixed.cores.size(); ++k) {
    const torch::Tensor& others = fixed.cores[k];
    const int64_t r = others.size(1), rows = others.size(0) + r;
    const torch::Tensor all = at::cat({at::eye(r, others.options()), others});
    const torch::Tensor places = kernels::ColumnOrder(fixed.pivots[k], rows).places();
    cores.push_back(all.index_select(0, places.to(all.device()))
                        .reshape({left, fixed.shape.out_dims[k], fixed.shape.in_dims[k], r}));
    left = r;
  }
  cores.push_back(fixed.cores.back());
  return Mpo(std::move(cores));
}

torch::Tensor apply(const GaugeFixed& fixed, const torch::Tensor& x,
                    const ContractionOptions& options) {
  if (!is_low_rank(fixed)) return free_gauge(fixed).apply(x, options);
  check_gauge_fixed(fixed);
  const torch::Tensor& last = fixed.cores[1];
  TORCH_CHECK_VALUE(x.dim() >= 1 && x.size(-1) == last.size(2) &&
                        x.scalar_type() == last.scalar_type() && x.device() == last.device(),
                    "[GaugeFixed] expected x [..., ", last.size(2), "] in ", last.scalar_type(),
                    " on ", last.device(), ", got ", x.sizes(), " in ", x.scalar_type(), " on ",
                    x.device());
  return apply_low_rank(fixed, x);
}

std::vector<int64_t> bonds(const GaugeFixed& fixed) {
  std::vector<int64_t> result;
  for (const torch::Tensor& pivots : fixed.pivots) result.push_back(pivots.numel());
  return result;
}

int64_t numel(const GaugeFixed& fixed) {
  int64_t total = 0;
  for (const torch::Tensor& core : fixed.cores) total += core.numel();
  return total;
}

int64_t gauge_fixed_parameter_count(const SiteShape& shape, const std::vector<int64_t>& bonds) {
  int64_t count = parameter_count(shape, bonds);
  for (const int64_t bond : bonds) count -= bond * bond;
  return count;
}

std::vector<int64_t> gauge_fixed_bonds_for_budget(const SiteShape& shape, int64_t budget) {
  const std::vector<int64_t> full = full_bonds(shape);
  auto limited = [&](int64_t chi) {
    std::vector<int64_t> result = full;
    for (int64_t& bond : result) bond = std::min(bond, chi);
    return result;
  };
  // No bond is beyond what its sides can carry, where the count grows with each.
  int64_t low = 1, high = full.empty() ? 1 : *std::max_element(full.begin(), full.end());
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (gauge_fixed_parameter_count(shape, limited(middle)) <= budget) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return limited(low);
}

}  // namespace schmidt::tn
