#include "schmidt/compress/stored_fit.h"

#include "schmidt/compress/errors.h"
#include "schmidt/model/layer_kinds.h"

namespace schmidt::compress {
namespace {

/// Rounding below this share of the fit's own error changes less than 0.5 % of the sum of both.
constexpr double kNegligible = 0.1;

torch::Tensor unfolded(const plan::LayerPlan& plan, const model::StoredWeight& weight,
                       const torch::Tensor& like) {
  return model::unfold_weight({plan.layer.name, plan.layer.rows, plan.layer.cols}, weight)
      .to(like.device(), like.scalar_type());
}

/// How far W' is from W: in the norm of the inputs where they are known.
double distance(const torch::Tensor& w, const torch::Tensor& approximation,
                const LayerInputs& inputs) {
  return inputs.moments.defined() ? weighted_error(w, approximation, inputs)
                                  : relative_error(w, approximation);
}

/// The plan in plain cores of no more parameters, which are fewer bytes: no pivots beside them.
plan::LayerPlan in_plain_cores(plan::LayerPlan plan) {
  plan.max_bonds = plan::bonds_within(plan.shape, plan.parameters(), false);
  plan.fixed_gauge = false;
  return plan;
}

}  // namespace

StoredFit pack_fit(const plan::LayerPlan& plan, FittedWeight fitted, torch::ScalarType dtype) {
  StoredFit fit;
  fit.stored = model::pack_weight(plan.layer.name, fitted.weight,
                                  {.dtype = dtype, .fixed_gauge = plan.fixed_gauge});
  fit.stored.form["relative_error"] = fitted.relative_error;
  if (fitted.weighted_error) fit.stored.form["weighted_error"] = *fitted.weighted_error;
  fit.fitted = std::move(fitted);
  return fit;
}

StoredFit fit_and_pack(const Method& method, const torch::Tensor& w, const plan::LayerPlan& plan,
                       const LayerInputs& inputs, const MethodOptions& options,
                       torch::ScalarType dtype) {
  StoredFit fit = pack_fit(plan, fit_layer(method, w, plan, inputs, options), dtype);
  if (c10::elementSize(dtype) >= 4) return fit;
  const auto measure = [&](const plan::LayerPlan& p, StoredFit& of) {
    const torch::Tensor exact = unfolded(p, of.fitted.weight, w);
    const torch::Tensor stored = unfolded(p, of.stored, w);
    of.rounding_error = relative_error(exact, stored);
    of.stored.form["rounding_error"] = of.rounding_error;
    return distance(w, stored, inputs);
  };
  const double error = measure(plan, fit);
  const double fitted_error = fit.fitted.weighted_error.value_or(fit.fitted.relative_error);
  if (!plan.fixed_gauge || plan.is_rounded() || fit.rounding_error <= kNegligible * fitted_error) {
    return fit;
  }

  const plan::LayerPlan plain = in_plain_cores(plan);
  if (plain.parameters() > plan.parameters()) return fit;  // not even with bonds of 1
  StoredFit other = pack_fit(plain, fit_layer(method, w, plain, inputs, options), dtype);
  return measure(plain, other) < error ? other : fit;
}

}  // namespace schmidt::compress
