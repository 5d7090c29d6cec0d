#include "schmidt/compress/neurons.h"

#include <algorithm>
#include <limits>

#include <ATen/ops/addmm.h>
#include <ATen/ops/cholesky_solve.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "schmidt/calibrate/gradient_moments.h"
#include "schmidt/compress/errors.h"
#include "schmidt/compress/weighted_target.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/tn/convergence.h"

namespace schmidt::compress {
namespace {

/// No MLP keeps less: there a prediction says nothing any more.
constexpr double kLeastShare = 0.05;
constexpr int64_t kSteps = 768;  // of the search, at least

/// A neuron of which no more is left, relative to its own moments, is explained by those taken.
constexpr double kExplained = 1e-5;

/// T^T H T of what is fitted.
torch::Tensor output_side(const WeightedTarget& target,
                          const calibrate::GradientMoments& gradient) {
  if (!target.norm.output.defined()) return gradient.moments.to(target.matrix.scalar_type());
  return at::matmul(at::matmul(target.matrix.t(), target.norm.output), target.matrix);
}

/// L of A + ridge I = L L^T, with the least ridge that moments of fewer tokens than neurons ask
/// for.
torch::Tensor root_of(torch::Tensor a) {
  const torch::Tensor mean = a.diagonal().mean();
  for (double ridge = a.scalar_type() == torch::kDouble ? 1e-12 : 1e-6; ridge < 1; ridge *= 10) {
    const auto [root, failed] = at::linalg_cholesky_ex(a);
    if (failed.item<int32_t>() == 0) return root;
    a = a.clone();
    a.diagonal().add_(mean * ridge);
  }
  return at::linalg_cholesky(a);  // which says what is wrong
}

/// What neurons that are taken leave of the moments: R = G - U U^T, U [n, taken], beside B R and
/// R B R. These three are kept as they were some columns of U before, so that a step costs as many
/// numbers as U has new columns, and products of whole matrices come once for many.
class Unexplained {
 public:
  Unexplained(const torch::Tensor& g, const torch::Tensor& b, int64_t at_once)
      : b_(b),
        n_(g.size(0)),
        columns_(std::max(kColumns, kLeastSteps * at_once)),
        kept_(at::empty({3 * n_, n_}, g.options())),
        since_(at::empty({3 * n_, columns_}, g.options())) {
    part(kept_, 0).copy_(g);
    renew();
  }

  torch::Tensor own() const { return own_; }      ///< diagonal of R [n]
  torch::Tensor gains() const { return gains_; }  ///< diagonal of R B R [n]

  /// R loses R_p (R_pp + diag(ridge))^-1 R_p^T for the neurons p; by how much tr(B R) falls.
  double take(const torch::Tensor& p, const torch::Tensor& ridge) {
    if (count_ + p.numel() > columns_) catch_up();
    const torch::Tensor since = since_.slice(1, 0, count_), u_since = part(since, 0);
    torch::Tensor columns = kept_.index_select(1, p);
    columns.addmm_(since, u_since.index_select(0, p).t(), 1, -1);
    torch::Tensor corner = columns.index_select(0, p);
    corner.diagonal().add_(ridge).clamp_min_(1e-30);
    columns = at::linalg_solve_triangular(root_of(corner), columns.t(), false).t();
    const torch::Tensor u = part(columns, 0), bu = part(columns, 1);
    // The third part is by R as it is kept.
    const torch::Tensor rbu =
        at::addmm(part(columns, 2), u_since, at::matmul(u_since.t(), bu), 1, -1);
    const torch::Tensor ubu = at::matmul(u.t(), bu);
    gains_.sub_((rbu * u).sum(1) * 2).add_((at::matmul(u, ubu) * u).sum(1));
    own_.sub_(u.square().sum(1));
    since_.slice(1, count_, count_ + p.numel()).copy_(columns);
    count_ += p.numel();
    return ubu.diagonal().sum().item<double>();
  }

  /// R after all that were taken [n, n].
  torch::Tensor moments() const {
    const torch::Tensor u = part(since_, 0).slice(1, 0, count_);
    return at::addmm(part(kept_, 0), u, u.t(), 1, -1);
  }

 private:
  static constexpr int64_t kColumns = 64, kLeastSteps = 4;

  /// Of this share of what they were, R B R's entries would be its rounding errors before long.
  static constexpr double kFallen = 0.03;

  /// R, B R or R B R, or the columns of U, B U or R B U.
  torch::Tensor part(const torch::Tensor& of, int64_t i) const {
    return of.slice(0, i * n_, (i + 1) * n_);
  }

  void catch_up() {
    const torch::Tensor since = since_.slice(1, 0, count_);
    const torch::Tensor u = part(since, 0), bu = part(since, 1), rbu = part(since, 2);
    kept_.addmm_(since, u.t(), 1, -1);
    // R B R loses R B U U^T on both sides, and has U (U^T B U) U^T back.
    part(kept_, 2).addmm_(u, at::addmm(rbu, u, at::matmul(u.t(), bu), 1, -1).t(), 1, -1);
    count_ = 0;
    if (gains_.max().item<double>() < kFallen * largest_) renew();
  }

  /// B R and R B R by R itself.
  void renew() {
    torch::Tensor br = part(kept_, 1), rbr = part(kept_, 2);
    at::matmul_out(br, b_, part(kept_, 0));
    at::matmul_out(rbr, part(kept_, 0), br);
    own_ = part(kept_, 0).diagonal().clone();
    gains_ = rbr.diagonal().clone();
    largest_ = std::max(0.0, gains_.max().item<double>());
  }

  torch::Tensor b_;
  int64_t n_, columns_, count_ = 0;
  torch::Tensor own_, gains_;
  double largest_ = 0;
  torch::Tensor kept_;   // R, B R and R B R, one below the other [3n, n]
  torch::Tensor since_;  // U, B U and R B U of those taken since then [3n, columns]
};

}  // namespace

NeuronOrder order_neurons(const torch::Tensor& g, const torch::Tensor& b, int64_t count) {
  const int64_t n = g.size(0), at_once = std::max<int64_t>(1, n / kSteps);
  TORCH_CHECK_VALUE(count >= 0 && count <= n, "[neurons] expected up to ", n, ", got ", count);
  Unexplained left(g, b, at_once);
  const torch::Tensor least = g.diagonal() * kExplained;
  torch::Tensor is_taken = at::zeros_like(least, at::TensorOptions(torch::kBool));
  NeuronOrder order;
  std::vector<double> gained;  // by each neuron
  while (std::cmp_less(order.neurons.size(), count)) {
    const int64_t more = std::min(at_once, count - static_cast<int64_t>(order.neurons.size()));
    const torch::Tensor own = left.own();
    const torch::Tensor worth =
        at::where(own > least, left.gains().clamp_min(0) / own.clamp_min(1e-30), 0.0)
            .masked_fill(is_taken, -std::numeric_limits<double>::infinity());
    const torch::Tensor picked = std::get<1>(worth.topk(more));
    is_taken.index_fill_(0, picked, true);
    // The least ridge parts equal neurons.
    const double step =
        left.take(picked, least.index_select(0, picked)) / static_cast<double>(more);
    for (int64_t i = 0; i < more; ++i) {
      order.neurons.push_back(picked[i].item<int64_t>());
      gained.push_back(std::max(0.0, step));
    }
  }
  // From the end, so that a large loss at the beginning does not drown the small ones.
  double loss = std::max(0.0, (b * left.moments()).sum(torch::kFloat64).item<double>());
  order.losses.assign(gained.size() + 1, loss);
  for (size_t k = gained.size(); k-- > 0;) order.losses[k] = loss += gained[k];
  return order;
}

torch::Tensor repaired(const torch::Tensor& w, const torch::Tensor& g,
                       const std::vector<int64_t>& kept) {
  const torch::Tensor ids = at::tensor(kept, at::TensorOptions(torch::kInt64)).to(w.device());
  const torch::Tensor columns = g.index_select(1, ids).to(torch::kFloat64);
  const torch::Tensor root = root_of(columns.index_select(0, ids));
  const torch::Tensor wanted = at::matmul(w.to(torch::kFloat64), columns);  // [m, k]
  torch::Tensor result = at::zeros_like(w);
  result.index_copy_(1, ids, at::cholesky_solve(wanted.t(), root).t().to(w.scalar_type()));
  return result;
}

int64_t neuron_step(int64_t neurons) {
  for (const int64_t step : {64, 32, 16, 8, 4, 2}) {
    if (neurons % step == 0 && neurons >= 12 * step) return step;
  }
  return 1;
}

plan::LayerCurve unmeasured_neurons(const plan::Layer& layer) {
  const int64_t step = neuron_step(layer.cols);
  const auto least = static_cast<int64_t>(kLeastShare * static_cast<double>(layer.cols));
  plan::LayerCurve curve{layer, {}, 2 * layer.numel()};
  for (int64_t kept = step; kept < layer.cols; kept += step) {
    if (kept < least) continue;
    curve.points.push_back({3 * layer.rows * kept, 0.0, {}, kept});
  }
  curve.points.push_back({3 * layer.numel(), 0.0, {}});
  return curve;
}

plan::LayerCurve neuron_curve(const plan::Layer& layer, const torch::Tensor& w,
                              const calibrate::Statistics& statistics,
                              const MethodOptions& options) {
  const LayerInputs inputs{.moments = statistics.inputs(layer),
                           .gradient = statistics.of(layer).gradient};
  const NeuronOrder order = tn::until_it_converges(layer.name, "prune", [&](bool wide) {
    const auto dtype = wide ? torch::kFloat64 : torch::kFloat32;
    const WeightedTarget target = weighted_target(w.to(dtype), inputs, options);
    return order_neurons(target.norm.input, output_side(target, *inputs.gradient), layer.cols);
  });
  plan::LayerCurve curve = unmeasured_neurons(layer);
  for (plan::CurvePoint& point : curve.points) {
    if (point.neurons) point.loss = order.losses[static_cast<size_t>(*point.neurons)] / 2;
  }
  return curve;
}

FittedWeight prune(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                   const MethodOptions& options) {
  const WeightedTarget target = weighted_target(w, inputs, options);
  NeuronOrder order =
      order_neurons(target.norm.input, output_side(target, *inputs.gradient), *plan.neurons);
  std::ranges::sort(order.neurons);
  const torch::Tensor fitted = repaired(target.matrix, target.norm.input, order.neurons);
  model::StoredWeight stored = model::dense_weight(plan.layer.name, fitted);
  stored.form["neurons"] = order.neurons;
  return {std::move(stored), relative_error(w, fitted), weighted_error(w, fitted, inputs)};
}

std::vector<int64_t> kept_neurons(const nlohmann::json& form) {
  return form.at("neurons").get<std::vector<int64_t>>();
}

}  // namespace schmidt::compress
