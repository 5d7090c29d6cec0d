#include "schmidt/compress/methods.h"

#include <array>

#include "schmidt/base/named.h"
#include "schmidt/tn/als.h"
#include "schmidt/tn/factorize.h"
#include "schmidt/tn/weighted_low_rank.h"

namespace schmidt::compress {
namespace {

Factors with_errors(const torch::Tensor& w, tn::Mpo mpo, const LayerInputs& inputs) {
  const torch::Tensor approximation = mpo.to_dense();
  const double norm = w.norm().item<double>();
  const double relative = norm == 0 ? 0.0 : (w - approximation).norm().item<double>() / norm;
  const double weighted =
      tn::weighted_error(w, approximation, {inputs.moments.to(w.scalar_type()), {}});
  return {{std::move(mpo)}, relative, weighted};
}

/// None where targets do not follow the drift.
std::optional<tn::DriftMap> drift_map(const LayerInputs& inputs, const MethodOptions& options) {
  if (options.drift == 0 || !inputs.cross.defined()) return std::nullopt;
  return tn::DriftMap(inputs.cross, inputs.moments, {options.drift, options.ridge});
}

torch::Tensor drifted_target(const torch::Tensor& w, const LayerInputs& inputs,
                             const MethodOptions& options) {
  const auto drift = drift_map(inputs, options);
  return drift ? drift->apply(w) : w;
}

Factors by_tt_svd(const torch::Tensor& w, const LayerPlan& plan, const LayerInputs& inputs,
                  const MethodOptions& options) {
  tn::Factorization f = tn::factorize(w, {plan.shape, plan.max_bonds, options.tolerance});
  if (inputs.moments.defined()) return with_errors(w, std::move(f.mpo), inputs);
  return {{std::move(f.mpo)}, f.relative_error, {}};
}

Factors by_whitened_svd(const torch::Tensor& w, const LayerPlan& plan, const LayerInputs& inputs,
                        const MethodOptions& options) {
  const torch::Tensor target = drifted_target(w, inputs, options);
  const torch::Tensor g = with_ridge(inputs.moments, options.ridge).to(target.scalar_type());
  const tn::LowRank f = tn::weighted_low_rank(target, {g, {}}, {plan.max_bonds.front()});
  return with_errors(w, tn::to_mpo({f.left.to(w.scalar_type()), f.right.to(w.scalar_type()), 0}),
                     inputs);
}

Factors by_fisher(const torch::Tensor& w, const LayerPlan& plan, const LayerInputs& inputs,
                  const MethodOptions& options) {
  const auto drift = drift_map(inputs, options);
  const GradientMoments& gradient = *inputs.gradient;
  const MetricPair pair =
      metric_pair(w, drift, inputs.moments, gradient, options.damping, options.ridge);
  const Modes modes = weighted_modes(pair.a, pair.b);
  const int64_t rank = std::min(plan.max_bonds.front(), modes.squares.size(0));
  const torch::Tensor wide = w.to(modes.q.scalar_type());
  const torch::Tensor target = drift ? drift->apply(wide) : wide;
  const torch::Tensor q = modes.q.narrow(1, 0, rank), dual = modes.dual.narrow(0, 0, rank);
  const torch::Tensor left = gradient.pulled_back ? at::matmul(target, q) : dual.t();
  const torch::Tensor right = gradient.pulled_back ? dual : at::matmul(q.t(), target);
  return with_errors(w, tn::to_mpo({left.to(w.scalar_type()), right.to(w.scalar_type()), 0}),
                     inputs);
}

Factors by_als(const torch::Tensor& w, const LayerPlan& plan, const LayerInputs& inputs,
               const MethodOptions& options) {
  const torch::Tensor target = drifted_target(w, inputs, options).to(w.scalar_type());
  const torch::Tensor g = with_ridge(inputs.moments, options.ridge).to(w.scalar_type());
  tn::AlsResult f =
      tn::weighted_mpo(target, {plan.shape, plan.max_bonds, options.tolerance}, {g, {}});
  return with_errors(w, std::move(f.mpo), inputs);
}

constexpr std::array<Method, 4> kMethods = {{
    {"tt-svd", false, false, true, by_tt_svd},
    {"whitened", true, false, false, by_whitened_svd},
    {"als", true, false, true, by_als},
    {"fisher", true, true, false, by_fisher},
}};

}  // namespace

std::span<const Method> methods() { return kMethods; }

const Method& find_method(std::string_view name) { return find_named(kMethods, name, "method"); }

}  // namespace schmidt::compress
