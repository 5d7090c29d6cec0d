#include "schmidt/compress/rounded_weight.h"

#include <utility>
#include <vector>

#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>

#include "schmidt/compress/integer_grid.h"
#include "schmidt/compress/weighted_target.h"
#include "schmidt/model/factored_projection.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/model/sum_projection.h"
#include "schmidt/tn/weighted_low_rank.h"

namespace schmidt::compress {
namespace {

/// The low rank of an error of rounding, which is in no relation to W's own directions.
Factors factors_of_error(const torch::Tensor& error, int64_t rank, const LayerInputs& inputs,
                         const MethodOptions& options) {
  tn::MomentNorm norm;
  if (inputs.moments.defined()) {
    norm.input = calibrate::with_ridge(inputs.moments, options.ridge).to(error.scalar_type());
  }
  if (inputs.gradient) {
    norm.output = calibrate::output_moments(*inputs.gradient, options.damping);
  }
  if (!norm.output.defined() && inputs.diagonal) {
    norm.output = inputs.diagonal->rows.sum(1).diag().to(error.device());
  }
  if (norm.output.defined()) norm.output = norm.output.to(error.scalar_type());
  const tn::LowRank f = tn::weighted_low_rank(error, norm, {.rank = rank});
  return {f.left, f.right};
}

/// The same product, L with orthonormal columns; zero columns where the rank is not reached.
Factors left_canonical(Factors f, int64_t rank) {
  const auto [q, r] = at::linalg_qr(f.left);
  Factors canonical{q, at::matmul(r, f.right)};
  const int64_t missing = rank - canonical.left.size(1);
  if (missing > 0) {
    canonical.left = at::constant_pad_nd(canonical.left, {0, missing});
    canonical.right = at::constant_pad_nd(canonical.right, {0, 0, 0, missing});
  }
  return canonical;
}

}  // namespace

WeightParts parts_of(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                     const MethodOptions& options) {
  if (!plan.factor_integers) return {w, {}, {}};
  const int64_t rank = plan.rank();
  if (!plan.integers) {
    Factors f = left_canonical(nearest_factors(w, rank, inputs, options), rank);
    return {{}, std::move(f.left), std::move(f.right)};
  }
  torch::Tensor weights;
  if (inputs.diagonal) weights = inputs.diagonal->column_weights().to(w.device());
  const torch::Tensor error =
      w - rounded(w, *plan.integers, RangeSearch{weights}).to(w.scalar_type());
  Factors f = left_canonical(factors_of_error(error, rank, inputs, options), rank);
  const torch::Tensor low_rank = at::matmul(rounded(f.left, plan.left_integers(), RangeSearch{}),
                                            rounded(f.right, *plan.factor_integers, RangeSearch{}))
                                     .to(w.scalar_type());
  return {w - low_rank, std::move(f.left), std::move(f.right)};
}

torch::Tensor column_weights(const LayerInputs& inputs, const torch::Device& device) {
  if (inputs.diagonal) return inputs.diagonal->column_weights().to(device);
  if (inputs.moments.defined()) return inputs.moments.diagonal().to(device, torch::kFloat32);
  return {};
}

torch::Tensor left_column_weights(const torch::Tensor& right, const torch::Tensor& column_weights) {
  if (!column_weights.defined()) return {};
  return at::mv(right.to(torch::kFloat32).square(), column_weights);
}

Factors nearest_factors(const torch::Tensor& w, int64_t rank, const LayerInputs& inputs,
                        const MethodOptions& options) {
  if (!inputs.gradient) {
    if (!inputs.moments.defined()) {
      const tn::LowRank f = tn::weighted_low_rank(w, {}, {rank});
      return {f.left, f.right};
    }
    const WeightedTarget target = weighted_target(w, inputs, options);
    const tn::LowRank f = tn::weighted_low_rank(target.matrix, {target.norm.input, {}}, {rank});
    return {f.left, f.right};
  }
  const auto drift = drift_map(inputs, options);
  const calibrate::GradientMoments& gradient = *inputs.gradient;
  const calibrate::NormPair pair = calibrate::norm_pair(w, drift.get(), inputs.moments, gradient,
                                                        options.damping, options.ridge);
  const auto [q, dual] = calibrate::leading_projector(pair.a, pair.b, rank);
  const torch::Tensor target = pair.target.to(q.scalar_type());
  const auto dtype = w.scalar_type();
  if (gradient.pulled_back) return {at::matmul(target, q).to(dtype), dual.to(dtype)};
  return {dual.t().to(dtype), at::matmul(q.t(), target).to(dtype)};
}

LayerInputs inputs_of_original(const calibrate::Statistics& statistics, const plan::Layer& layer,
                               const torch::Device& device) {
  LayerInputs inputs;
  if (layer.block < 0) {
    const calibrate::RowFisher fisher = statistics.rows(layer);
    inputs.diagonal = fisher.diagonal();
    inputs.of_rows = fisher.summed().to(device);
    return inputs;
  }
  inputs.moments = statistics.inputs(layer).to(device);
  inputs.gradient = statistics.of(layer).gradient.to(device);
  inputs.diagonal = statistics.diagonal(layer);
  return inputs;
}

model::StoredWeight stored_weight(const std::string& name, const RoundedParts& parts) {
  if (!parts.left) return model::quantized_weight(name, *parts.whole);
  if (!parts.whole) return model::factored_weight(name, *parts.left, *parts.right);
  std::vector<model::StoredWeight> terms;
  terms.push_back(model::quantized_weight(model::term_name(name, 0), *parts.whole));
  terms.push_back(model::factored_weight(model::term_name(name, 1), *parts.left, *parts.right));
  return model::sum_weight(std::move(terms));
}

}  // namespace schmidt::compress
