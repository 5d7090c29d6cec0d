#include "schmidt/tn/gauss_newton.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include "schmidt/tn/canonical.h"
#include "schmidt/tn/core_problem.h"
#include "schmidt/tn/mpo_sum.h"
#include "schmidt/tn/scaled_fit.h"

namespace schmidt::tn {
namespace {

/// Shorter steps that a round tries, each half as long, before there is none.
constexpr int kHalvings = 4;

/// A step this close to 1, relative, is taken as it is.
constexpr double kNearOne = 0.05;

void check(const torch::Tensor& w, const std::vector<Mpo>& start, const MomentNorm& norm,
           const GaussNewtonOptions& options) {
  check_fit("gauss_newton", w, start, norm);
  TORCH_CHECK_VALUE(!start.empty(), "[gauss_newton] expected one term or more, got none");
  TORCH_CHECK_VALUE(options.rounds >= 0 && options.cg_steps >= 1,
                    "[gauss_newton] expected rounds >= 0 and cg_steps >= 1, got ", options.rounds,
                    " and ", options.cg_steps);
}

/// A point of the search: D = W - W', and H D G.
struct Point {
  std::vector<Mpo> terms;
  torch::Tensor gap, weighted_gap;
  double square;  // ||D||^2

  Point(std::vector<Mpo> at, const ScaledFit& fit)
      : terms(std::move(at)),
        gap(fit.target - to_dense(terms)),
        weighted_gap(weighted(gap, fit.solvable)),
        square(inner_product({gap}, {weighted_gap})) {}
};

std::vector<Mpo> moved(const std::vector<Mpo>& terms, const Cores& step, double length) {
  std::vector<Mpo> result;
  size_t k = 0;
  for (const Mpo& term : terms) {
    Cores cores = term.cores();
    for (torch::Tensor& core : cores) core = core + length * step[k++];
    result.emplace_back(std::move(cores));
  }
  return result;
}

/// All cores' least-squares problems as one.
class Linearized {
 public:
  /// `earlier` is of the same terms with other cores.
  Linearized(const std::vector<Mpo>& terms, const MomentNorm& norm, const Linearized* earlier)
      : norm_(norm) {
    for (const Mpo& term : terms) {
      const auto sites = static_cast<int64_t>(term.cores().size());
      for (int64_t k = 0; k < sites; ++k) {
        problems_.emplace_back(term.cores(), k, norm);
        preconditioners_.push_back(problems_.back().preconditioner(
            earlier != nullptr ? &earlier->preconditioners_[problems_.size() - 1] : nullptr));
      }
    }
  }

  /// Half of minus the gradient, from H D G.
  Cores right_side(const torch::Tensor& weighted_gap) const {
    Cores result;
    for (const CoreProblem& p : problems_) result.push_back(p.met(weighted_gap));
    return result;
  }

  Cores solve(const Cores& b, const CgOptions& options) const {
    const auto product = [this](const Cores& x) {
      torch::Tensor change = problems_.front().dense(x.front());
      for (size_t k = 1; k < x.size(); ++k) change = change + problems_[k].dense(x[k]);
      return right_side(weighted(change, norm_));
    };
    const auto precondition = [this](const Cores& residual) {
      Cores z;
      for (size_t k = 0; k < residual.size(); ++k) {
        z.push_back(preconditioners_[k].solve(residual[k]));
      }
      return z;
    };
    return conjugate_gradients(b, product, precondition, options);
  }

 private:
  MomentNorm norm_;
  std::vector<CoreProblem> problems_;
  std::vector<LegPreconditioner> preconditioners_;
};

/// The best point found along `step`; none if all are worse than `from`. `slope` < 0 is the
/// derivative of the squared error at `from`.
std::optional<Point> search(const Point& from, const Cores& step, double slope,
                            const ScaledFit& fit) {
  const auto at = [&](double length) { return Point(moved(from.terms, step, length), fit); };
  Point best = at(1.0);
  const double curvature = best.square - from.square - slope;
  double length = curvature > 0 ? std::clamp(-slope / (2 * curvature), 0.1, 2.0) : 1.0;
  if (std::abs(length - 1.0) > kNearOne) {
    Point other = at(length);
    if (other.square < best.square) best = std::move(other);
  }
  for (int i = 0; i < kHalvings && !(best.square < from.square); ++i) best = at(length /= 2);
  if (!(best.square < from.square)) return std::nullopt;
  return best;
}

}  // namespace

GaussNewtonResult gauss_newton(const torch::Tensor& w, const std::vector<Mpo>& start,
                               const MomentNorm& norm, const GaussNewtonOptions& options) {
  check(w, start, norm, options);
  at::NoGradGuard no_grad;
  const ScaledFit fit(w, norm, w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  std::vector<Mpo> terms;
  for (const Mpo& term : start) terms.push_back(fit.scaled(term));
  Point now(std::move(terms), fit);
  GaussNewtonResult result{start, fit.error(now.gap), {}};
  result.errors.push_back(result.relative_error);
  std::optional<Linearized> linearized;
  for (int64_t round = 0; round < options.rounds && result.relative_error > 0; ++round) {
    for (Mpo& term : now.terms) term = balance(term);
    linearized = Linearized(now.terms, fit.solvable, linearized ? &*linearized : nullptr);
    const Cores b = linearized->right_side(now.weighted_gap);
    const Cores step = linearized->solve(b, {options.cg_steps, options.cg_tolerance});
    std::optional<Point> next = search(now, step, -2 * inner_product(b, step), fit);
    if (!next) break;
    now = std::move(*next);
    const double before = result.relative_error, error = fit.error(now.gap);
    result.errors.push_back(error);
    if (error < before) {
      for (size_t i = 0; i < start.size(); ++i) {
        result.terms[i] = fit.restored(now.terms[i], start[i].cores()[0].scalar_type());
      }
      result.relative_error = error;
    }
    if (!(error < before * (1 - options.tolerance))) break;
    result.gave_up = round + 1 < options.rounds && 2 * error - before > options.to_beat;
    if (result.gave_up) break;
  }
  return result;
}

}  // namespace schmidt::tn
