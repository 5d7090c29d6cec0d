#include "schmidt/tn/weighted_low_rank.h"

#include <cmath>
#include <optional>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "schmidt/tn/block_krylov.h"
#include "schmidt/tn/magnitude.h"
#include "schmidt/tn/positive.h"

namespace schmidt::tn {
namespace {

/// Of the dropped energy: the greatest standard error of an estimate that is taken for it.
constexpr double kDeviation = 0.005;

/// Relative energies below are rounding of zero.
constexpr double kEnergyRounding = 1e-13;

/// What entries are divided by: 1 for the usual, which saves a copy.
double scale_of(const torch::Tensor& t) {
  const double unit = unit_of(t);
  return unit > 1e-6 && unit < 1e6 ? 1.0 : unit;
}

torch::Tensor scaled(const torch::Tensor& t, double scale, at::ScalarType dtype = at::kDouble) {
  return scale == 1.0 ? t.to(dtype) : t.to(dtype) / scale;
}

/// W, G and H in units in which no square overflows or vanishes, and H taken into W: the problem
/// left is that of F^T W, H = F F^T, in the norm G alone.
class Problem {
 public:
  Problem(const torch::Tensor& w, const MomentNorm& norm)
      : w_(w),
        g_(norm.input),
        w_scale_(scale_of(w)),
        g_scale_(scale_of(norm.input)),
        h_scale_(scale_of(norm.output)) {
    if (norm.output.defined()) root_ = positive_root(scaled(norm.output, h_scale_));
  }

  /// F^T W [k, n], or W [m, n].
  torch::Tensor matrix(at::ScalarType dtype) const {
    if (!root_) return scaled(w_, w_scale_, dtype);
    return at::mm(root_->root.t(), scaled(w_, w_scale_)).to(dtype);
  }
  torch::Tensor g(at::ScalarType dtype) const {
    return g_.defined() ? scaled(g_, g_scale_, dtype) : g_;
  }

  /// U [k, r] and U^T F^T W [r, n] -> the factors of W'.
  torch::Tensor left(const torch::Tensor& u) const {
    return root_ ? at::mm(root_->inverse, u.to(at::kDouble)) : u;
  }
  torch::Tensor right(const torch::Tensor& projected) const { return projected * w_scale_; }

  /// Of singular values, those of this problem being 1.
  double unit() const { return w_scale_ * std::sqrt(g_scale_) * std::sqrt(h_scale_); }

  int64_t small_side() const {
    return std::min(root_ ? root_->root.size(1) : w_.size(0), w_.size(1));
  }

 private:
  torch::Tensor w_, g_;
  double w_scale_, g_scale_, h_scale_;
  std::optional<PositiveRoot> root_;
};

torch::Tensor symmetric(const torch::Tensor& a) { return (a + a.t()).mul_(0.5); }

/// Eigen-decomposition of A A^T, A = F^T W G^{1/2}, by its smaller side.
struct Spectrum {
  torch::Tensor energies;  ///< squared singular values, ascending, clipped at 0
  torch::Tensor basis;     ///< [k, columns], leading last; empty if only values were asked for
};

Spectrum spectrum(const torch::Tensor& w, const torch::Tensor& g, bool with_basis) {
  const int64_t k = w.size(0), n = w.size(1);
  const bool by_outputs = !g.defined() ? k <= n : 3 * k <= 4 * n;  // a root of G costs an eigh
  torch::Tensor root, gram;
  if (by_outputs) {
    gram = at::mm(g.defined() ? at::mm(w, g) : w, w.t());
  } else {
    root = g.defined() ? at::mm(w, positive_root(g).root) : w;  // [k, rank of G]
    gram = at::mm(root.t(), root);
  }
  const auto [values, vectors] = at::linalg_eigh(symmetric(gram));
  Spectrum result{values.clamp_min(0), {}};
  if (with_basis) result.basis = by_outputs ? vectors : at::mm(root, vectors);
  return result;
}

/// U [k, r], leading first, with orthonormal columns that span the last r of `basis`.
torch::Tensor leading(const torch::Tensor& basis, int64_t rank) {
  const torch::Tensor last = basis.slice(1, std::max<int64_t>(0, basis.size(1) - rank)).flip(1);
  return std::get<0>(at::linalg_qr(last));
}

LeadingSpace exact_solution(const Problem& problem, int64_t rank) {
  const torch::Tensor w = problem.matrix(at::kDouble);
  const Spectrum all = spectrum(w, problem.g(at::kDouble), /*with_basis=*/true);
  const int64_t rest = std::max<int64_t>(0, all.energies.size(0) - rank);
  const torch::Tensor u = leading(all.basis, rank);
  return {.basis = u,
          .projected = at::mm(u.t(), w),
          .kept = all.energies.slice(0, rest).sum().item<double>(),
          .dropped = all.energies.slice(0, 0, rest).sum().item<double>(),
          .deviation = 0.0};
}

/// In single precision first, which takes half the time.
std::optional<LeadingSpace> fast_solution(const Problem& problem, int64_t rank) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const torch::Tensor w = problem.matrix(dtype), g = problem.g(dtype);
    auto space = leading_space({w, g}, {.rank = rank});
    if (!space) continue;
    if (space->deviation > kDeviation * space->dropped) {
      space->dropped = squared_norm(w, {.input = g}) - space->kept;
    }
    return space;
  }
  return std::nullopt;
}

/// The optimum by the inputs' side, where that is the smaller one: with G = R R^T,
/// B = W^T H W and R^T B R = V L V^T it is W Q L^{-1} Q^T B, Q = R V_r.
LowRank by_inputs(const torch::Tensor& w, const MomentNorm& norm, int64_t rank,
                  at::ScalarType dtype) {
  const double w_scale = scale_of(w);
  const torch::Tensor wide = scaled(w, w_scale);
  const torch::Tensor h = scaled(norm.output, scale_of(norm.output));
  const torch::Tensor b = symmetric(at::mm(wide.t(), at::mm(h, wide)));
  torch::Tensor root;
  if (norm.input.defined()) {
    root = positive_root(scaled(norm.input, scale_of(norm.input))).root;
  } else {
    root = at::eye(w.size(1), b.options());
  }
  const auto [ascending, vectors] = at::linalg_eigh(symmetric(at::mm(root.t(), at::mm(b, root))));
  const torch::Tensor energies = ascending.flip(0).clamp_min(0);
  const double all = energies.sum().item<double>();
  const int64_t seen =
      (energies > kEnergyRounding * energies[0]).sum().item<int64_t>();  // others say nothing
  if (seen == 0) {
    return {at::zeros({w.size(0), 1}, w.options().dtype(dtype)),
            at::zeros({1, w.size(1)}, w.options().dtype(dtype)), 0.0};
  }
  const int64_t r = std::min(rank, seen);
  const torch::Tensor q = at::mm(root, vectors.flip(1).slice(1, 0, r));
  const torch::Tensor dual = at::mm(q.t(), b) / energies.slice(0, 0, r).unsqueeze(1);
  const double dropped = energies.slice(0, r).sum().item<double>();
  return {(at::mm(wide, q) * w_scale).to(dtype).contiguous(), dual.to(dtype).contiguous(),
          std::sqrt(dropped / all)};
}

/// A matrix of no more than `rank` rows or columns is its own optimum.
LowRank unchanged(const torch::Tensor& w, at::ScalarType dtype) {
  const int64_t m = w.size(0), n = w.size(1);
  const torch::Tensor matrix = w.to(dtype).contiguous();
  const torch::Tensor one = at::eye(std::min(m, n), matrix.options());
  return m <= n ? LowRank{one, matrix, 0.0} : LowRank{matrix, one, 0.0};
}

}  // namespace

LowRank weighted_low_rank(const torch::Tensor& w, const MomentNorm& norm,
                          const LowRankOptions& options) {
  check_norm("weighted_low_rank", w, norm);
  TORCH_CHECK_VALUE(options.rank >= 1, "[weighted_low_rank] expected a rank of at least 1, got ",
                    options.rank);
  at::NoGradGuard no_grad;
  const auto dtype = w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const int64_t rank = options.rank, small_side = std::min(w.size(0), w.size(1));
  if (rank >= small_side) return unchanged(w, dtype);

  if (norm.output.defined() && w.size(1) < w.size(0)) return by_inputs(w, norm, rank, dtype);
  const Problem problem(w, norm);
  std::optional<LeadingSpace> found;
  const int64_t side = problem.small_side();
  if (!options.exact && krylov_is_faster(rank, side)) {
    found = fast_solution(problem, rank);
  }
  if (!found) found = exact_solution(problem, rank);
  const double dropped = std::max(0.0, found->dropped), whole = dropped + found->kept;
  return {problem.left(found->basis).to(dtype).contiguous(),
          problem.right(found->projected).to(dtype).contiguous(),
          whole > 0 ? std::sqrt(dropped / whole) : 0.0};
}

torch::Tensor weighted_singular_values(const torch::Tensor& w, const MomentNorm& norm) {
  check_norm("weighted_singular_values", w, norm);
  at::NoGradGuard no_grad;
  const Problem problem(w, norm);
  const torch::Tensor energies =
      spectrum(problem.matrix(at::kDouble), problem.g(at::kDouble), /*with_basis=*/false).energies;
  const torch::Tensor values = energies.flip(0).sqrt() * problem.unit();
  // A singular norm has fewer directions than W.
  const int64_t count = std::min(w.size(0), w.size(1)), have = values.size(0);
  if (have >= count) return values.slice(0, 0, count);
  return at::cat({values, at::zeros({count - have}, values.options())});
}

torch::Tensor error_of_each_rank(const torch::Tensor& singular_values) {
  TORCH_CHECK_VALUE(singular_values.dim() == 1 && singular_values.numel() > 0,
                    "[error_of_each_rank] expected singular values [k], got ",
                    singular_values.sizes());
  const torch::Tensor energies = singular_values.to(at::kDouble).square();
  const torch::Tensor tails = energies.flip(0).cumsum(0).flip(0);  // the smallest are summed first
  const double total = tails[0].item<double>();
  const torch::Tensor none = at::zeros({1}, energies.options());
  return total > 0 ? (at::cat({tails, none}) / total).sqrt() : at::cat({tails, none});
}

Mpo to_mpo(const LowRank& factors) {
  const int64_t m = factors.left.size(0), r = factors.left.size(1), n = factors.right.size(1);
  return Mpo({factors.left.reshape({1, m, 1, r}), factors.right.reshape({r, 1, n, 1})});
}

}  // namespace schmidt::tn
