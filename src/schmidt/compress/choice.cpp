#include "schmidt/compress/choice.h"

#include <cmath>
#include <limits>

#include "schmidt/compress/weighted_target.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/tn/moment_norm.h"

namespace schmidt::compress {
namespace {

/// The plan in each way that is tried, as far as it can spend no more than the plan's parameters.
std::vector<plan::LayerPlan> contenders(const plan::LayerPlan& plan, bool gradient,
                                        const MethodOptions& options) {
  std::vector<plan::LayerPlan> result;
  const auto add = [&](const char* method, const tn::SiteShape& shape) {
    plan::LayerPlan candidate = plan;
    candidate.method = method;
    candidate.shape = shape;
    candidate.max_bonds = plan::bonds_within(shape, plan.parameters(), plan.fixed_gauge);
    const bool fits = find_method(method).one_network ? candidate.parameters() <= plan.parameters()
                                                      : sum_parts(candidate, options).has_value();
    if (fits) result.push_back(std::move(candidate));
  };
  add(gradient ? "fisher" : "whitened", tn::low_rank_shape(plan.layer.rows, plan.layer.cols));
  if (const auto mpo = mpo_shape(plan, options.sites)) {
    add("sum", *mpo);
    add("gauss-newton", *mpo);
  }
  return result;
}

torch::Tensor unfolded(const plan::LayerPlan& plan, const FittedWeight& fitted) {
  return model::unfold_weight({plan.layer.name, plan.layer.rows, plan.layer.cols}, fitted.weight);
}

}  // namespace

FittedWeight choose(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                    const MethodOptions& options) {
  const WeightedTarget target = weighted_target(w, inputs, options);
  const double whole = tn::squared_norm(target.matrix, target.norm);
  const auto judged = [&](const FittedWeight& fitted) {
    const double distance = tn::squared_norm(target.matrix - unfolded(plan, fitted), target.norm);
    return whole > 0 ? std::sqrt(distance / whole) : 0.0;
  };

  // The norm of both moments needs H itself for all but the low rank, which is its optimum.
  const bool judges_all = !inputs.gradient || target.norm.output.defined();
  FittedWeight best;
  double least = std::numeric_limits<double>::infinity();
  std::vector<Candidate> tried;
  for (const plan::LayerPlan& candidate : contenders(plan, inputs.gradient.has_value(), options)) {
    if (!tried.empty() && (!judges_all || least == 0)) break;
    MethodOptions rivalling = options;
    rivalling.fit.to_beat = least;
    FittedWeight found = find_method(candidate.method).fit(w, candidate, inputs, rivalling);
    const double error = judged(found);
    tried.push_back({candidate.method, error,
                     stored_parameters(plan.layer.name, found.weight, plan.fixed_gauge),
                     !found.gave_up});
    if (tried.size() > 1 && !(error < least)) continue;
    best = std::move(found);
    least = error;
    best.method = candidate.method;
  }
  best.candidates = std::move(tried);
  return best;
}

}  // namespace schmidt::compress
