#include "schmidt/tn/core_problem.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include "schmidt/tn/contraction.h"
#include "schmidt/tn/weighted_tt_svd.h"

namespace schmidt::tn {
namespace {

/// Directions below this share of the mean weight are left to conjugate gradients.
constexpr double kPreconditionerRidge = 1e-8;

torch::Tensor run(const std::vector<torch::Tensor>& cores, int64_t begin, int64_t end) {
  if (begin == end) return at::ones({1, 1, 1, 1}, cores[0].options());
  const torch::Tensor merged = merge_cores(cores, {begin, end});
  int64_t out = 1, in = 1;
  for (int64_t k = begin; k < end; ++k) {
    out *= cores[k].size(1);
    in *= cores[k].size(2);
  }
  return merged.reshape({cores[begin].size(0), out, in, cores[end - 1].size(3)});
}

/// A block's Gram matrix over its bond [r, r] in the moments of its own legs; `block`
/// is [r, out, in].
torch::Tensor bond_moments(const torch::Tensor& block, const torch::Tensor& out_moments,
                           const torch::Tensor& in_moments) {
  torch::Tensor weighted = block;
  if (in_moments.defined()) weighted = at::matmul(weighted, in_moments);
  if (out_moments.defined()) weighted = at::matmul(out_moments, weighted);
  return at::mm(weighted.flatten(1), block.flatten(1).t());
}

}  // namespace

torch::Tensor LegPreconditioner::solve(const torch::Tensor& residual) const {
  torch::Tensor z = residual;
  for (int64_t leg = 0; leg < 4; ++leg) {
    if (z.size(leg) == 1) continue;  // a scale
    const torch::Tensor front = z.movedim(leg, 0);
    z = at::mm(inverses_[leg], front.flatten(1)).reshape(front.sizes()).movedim(0, leg);
  }
  return z.contiguous();
}

CoreProblem::CoreProblem(const std::vector<torch::Tensor>& cores, int64_t site,
                         const MomentNorm& norm)
    : left_(run(cores, 0, site)),
      right_(run(cores, site + 1, static_cast<int64_t>(cores.size()))),
      norm_(norm) {
  const torch::Tensor& core = cores[site];
  split_ = {{left_.size(1), core.size(1), right_.size(1)},
            {left_.size(2), core.size(2), right_.size(2)}};
}

int64_t CoreProblem::rows() const { return left_.size(3) * split_.in_dims[1] * right_.size(0); }

torch::Tensor CoreProblem::dense(const torch::Tensor& core) const {
  return Mpo({left_, core, right_}).to_dense();
}

torch::Tensor CoreProblem::right_side(const torch::Tensor& d) const {
  return met(weighted(d, norm_));
}

torch::Tensor CoreProblem::met(const torch::Tensor& matrix) const {
  const int64_t o_l = split_.out_dims[0], o = split_.out_dims[1], o_r = split_.out_dims[2];
  const int64_t i_l = split_.in_dims[0], i = split_.in_dims[1], i_r = split_.in_dims[2];
  const int64_t a = left_.size(3), b = right_.size(0);
  const torch::Tensor left = left_.reshape({o_l * i_l, a}), right = right_.reshape({b, o_r * i_r});
  torch::Tensor x = matrix.reshape({o_l, o, o_r, i_l, i, i_r});
  // The larger bond last.
  if (a <= b) {
    x = at::mm(left.t(), x.permute({0, 3, 1, 4, 2, 5}).reshape({o_l * i_l, -1}));
    return at::mm(x.reshape({a * o * i, o_r * i_r}), right.t()).reshape({a, o, i, b});
  }
  x = at::mm(x.permute({0, 3, 1, 4, 2, 5}).reshape({-1, o_r * i_r}), right.t());
  return at::mm(left.t(), x.reshape({o_l * i_l, o * i * b})).reshape({a, o, i, b});
}

torch::Tensor CoreProblem::normal_matrix() const {
  const int64_t o = split_.out_dims[0] * split_.out_dims[2];
  const int64_t i_l = split_.in_dims[0], i = split_.in_dims[1], i_r = split_.in_dims[2];
  const int64_t pairs = left_.size(3) * right_.size(0), e = i_l * i_r;
  // What surrounds C as one matrix for each pair (a, b): [a b, o_L o_R, i_L i_R].
  const torch::Tensor left = left_.reshape({-1, left_.size(3)}).t();  // [a, o_L i_L]
  const torch::Tensor right = right_.reshape({right_.size(0), -1});   // [b, o_R i_R]
  const torch::Tensor around = at::mm(left.reshape({-1, 1}), right.reshape({1, -1}))
                                   .reshape({left_.size(3), split_.out_dims[0], i_l, right_.size(0),
                                             split_.out_dims[2], i_r})
                                   .permute({0, 3, 1, 4, 2, 5})
                                   .reshape({pairs, o, e});
  const torch::Tensor flat = around.reshape({pairs, o * e});
  torch::Tensor n = at::empty({i, pairs, i, pairs}, flat.options());
  if (!norm_.input.defined()) {
    n.zero_();
    const torch::Tensor gram = at::mm(flat, flat.t());
    for (int64_t k = 0; k < i; ++k) n.select(0, k).select(1, k).copy_(gram);
    return n.reshape({i * pairs, i * pairs});
  }
  const torch::Tensor g = norm_.input.reshape({i_l, i, i_r, i_l, i, i_r})
                              .permute({1, 4, 0, 2, 3, 5})  // [i, i', i_L, i_R, i_L', i_R']
                              .reshape({i, i, e, e});
  for (int64_t k = 0; k < i; ++k) {
    for (int64_t j = 0; j <= k; ++j) {
      const torch::Tensor weighted = at::mm(around.reshape({pairs * o, e}), g[k][j]);
      const torch::Tensor block = at::mm(weighted.reshape({pairs, o * e}), flat.t());
      n.select(0, k).select(1, j).copy_(block);
      if (j < k) n.select(0, j).select(1, k).copy_(block.t());
    }
  }
  return n.reshape({i * pairs, i * pairs});
}

torch::Tensor CoreProblem::solve_directly(const torch::Tensor& b, double ridge) const {
  TORCH_INTERNAL_ASSERT(!norm_.output.defined());
  const int64_t a = b.size(0), o = b.size(1), i = b.size(2), bond = b.size(3);
  const torch::Tensor columns = b.permute({2, 0, 3, 1}).reshape({rows(), o});  // [i a b, o]
  return RidgeSolver(normal_matrix(), ridge)
      .solve(columns)
      .reshape({i, a, bond, o})
      .permute({1, 3, 0, 2})
      .contiguous();
}

LegPreconditioner CoreProblem::preconditioner(const LegPreconditioner* earlier) const {
  const auto dtype = left_.scalar_type();
  auto legs = [&](const torch::Tensor& moments, const std::vector<int64_t>& dims) {
    std::vector<torch::Tensor> sites = site_moments(moments, dims);
    for (torch::Tensor& site : sites) site = site.to(dtype);
    sites.resize(3);
    return sites;
  };
  const std::vector<torch::Tensor> h = legs(norm_.output, split_.out_dims);
  const std::vector<torch::Tensor> g = legs(norm_.input, split_.in_dims);
  auto inverse = [&](const torch::Tensor& moments, int64_t size) {
    const torch::Tensor one = at::eye(size, left_.options());
    if (!moments.defined()) return one;
    return RidgeSolver(moments.to(at::kDouble), kPreconditionerRidge)
        .solve(one.to(at::kDouble))
        .to(dtype);
  };
  const torch::Tensor left = left_.squeeze(0).permute({2, 0, 1}), right = right_.squeeze(3);
  return LegPreconditioner(
      {inverse(bond_moments(left, h[0], g[0]), left.size(0)),
       earlier != nullptr ? earlier->inverses()[1] : inverse(h[1], split_.out_dims[1]),
       earlier != nullptr ? earlier->inverses()[2] : inverse(g[1], split_.in_dims[1]),
       inverse(bond_moments(right, h[2], g[2]), right.size(0))});
}

torch::Tensor CoreProblem::solve_by_gradients(const torch::Tensor& b,
                                              const CgOptions& options) const {
  const LegPreconditioner legs = preconditioner();
  return conjugate_gradients(
             {b}, [&](const Cores& x) { return Cores{right_side(dense(x.front()))}; },
             [&](const Cores& residual) { return Cores{legs.solve(residual.front())}; }, options)
      .front();
}

}  // namespace schmidt::tn
