#include "schmidt/compress/choice.h"

#include <cmath>

#include "schmidt/compress/weighted_target.h"
#include "schmidt/tn/metric.h"
#include "schmidt/tn/mpo_sum.h"

namespace schmidt::compress {
namespace {

constexpr const char* kRivals[] = {"sum", "gauss-newton"};

LayerPlan low_rank_plan(const LayerPlan& plan, bool gradient) {
  LayerPlan result = plan;
  result.method = gradient ? "fisher" : "whitened";
  result.shape = tn::low_rank_shape(plan.layer.rows, plan.layer.cols);
  result.max_bonds = bonds_within(result.shape, plan.parameters(), plan.fixed_gauge);
  return result;
}

}  // namespace

Factors choose(const torch::Tensor& w, const LayerPlan& plan, const LayerInputs& inputs,
               const MethodOptions& options) {
  const WeightedTarget target = weighted_target(w, inputs, options);
  const double norm = tn::squared_norm(target.matrix, target.metric);
  const auto judged = [&](const Factors& factors) {
    const double distance =
        tn::squared_norm(target.matrix - tn::to_dense(factors.terms), target.metric);
    return norm > 0 ? std::sqrt(distance / norm) : 0.0;
  };

  LayerPlan candidate = low_rank_plan(plan, inputs.gradient.has_value());
  Factors best = find_method(candidate.method).factorize(w, candidate, inputs, options);
  double least = judged(best);
  std::vector<Candidate> tried = {
      {candidate.method, least, tn::parameter_count(best.terms, plan.fixed_gauge), true}};
  std::string chosen = candidate.method;

  const auto mpo = mpo_shape(plan, options.sites);
  const bool judges_all = !inputs.gradient || target.metric.output.defined();
  for (const char* rival : kRivals) {
    if (!mpo || !judges_all || least == 0) break;
    candidate.method = rival;
    candidate.shape = *mpo;
    candidate.max_bonds = bonds_within(*mpo, plan.parameters(), plan.fixed_gauge);
    const Method& method = find_method(rival);
    MethodOptions rivalling = options;
    rivalling.fit.to_beat = least;
    Factors found = method.factorize(w, candidate, inputs, rivalling);
    const double error = judged(found);
    const int64_t parameters = tn::parameter_count(found.terms, plan.fixed_gauge);
    tried.push_back({rival, error, parameters, !found.gave_up});
    if (error < least && parameters <= plan.parameters()) {
      best = std::move(found);
      least = error;
      chosen = rival;
    }
  }
  best.method = chosen;
  best.candidates = std::move(tried);
  return best;
}

}  // namespace schmidt::compress
