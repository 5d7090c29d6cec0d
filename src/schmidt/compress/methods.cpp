#include "schmidt/compress/methods.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/base/named.h"
#include "schmidt/compress/choice.h"
#include "schmidt/compress/error_feedback.h"
#include "schmidt/compress/errors.h"
#include "schmidt/compress/integer_grid.h"
#include "schmidt/compress/neurons.h"
#include "schmidt/compress/rounded_weight.h"
#include "schmidt/compress/weighted_target.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/model/nf4_projection.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/model/sum_projection.h"
#include "schmidt/tn/als.h"
#include "schmidt/tn/convergence.h"
#include "schmidt/tn/factorize.h"
#include "schmidt/tn/low_rank_plus_mpo.h"
#include "schmidt/tn/magnitude.h"
#include "schmidt/tn/mpo_sum.h"
#include "schmidt/tn/weighted_low_rank.h"
#include "schmidt/tn/weighted_tt_svd.h"

namespace schmidt::compress {
namespace {

model::StoredWeight weight_of(const plan::LayerPlan& plan, const std::vector<tn::Mpo>& terms) {
  return terms.size() == 1 ? model::mpo_weight(plan.layer.name, terms.front())
                           : model::sum_weight(plan.layer.name, terms);
}

FittedWeight with_errors(const torch::Tensor& w, const plan::LayerPlan& plan,
                         const std::vector<tn::Mpo>& terms, const LayerInputs& inputs) {
  const torch::Tensor approximation = tn::to_dense(terms);
  return {weight_of(plan, terms), relative_error(w, approximation),
          weighted_error(w, approximation, inputs)};
}

tn::Mpo low_rank_mpo(const torch::Tensor& left, const torch::Tensor& right,
                     torch::ScalarType dtype) {
  return tn::to_mpo({left.to(dtype), right.to(dtype), 0});
}

FittedWeight by_tt_svd(const torch::Tensor& w, const plan::LayerPlan& plan,
                       const LayerInputs& inputs, const MethodOptions& options) {
  tn::Factorization f = tn::factorize(w, {plan.shape, plan.max_bonds, options.tolerance});
  if (inputs.moments.defined()) return with_errors(w, plan, {std::move(f.mpo)}, inputs);
  return {weight_of(plan, {f.mpo}), f.relative_error, {}};
}

FittedWeight by_whitened_svd(const torch::Tensor& w, const plan::LayerPlan& plan,
                             const LayerInputs& inputs, const MethodOptions& options) {
  const WeightedTarget target = weighted_target(w, inputs, options);
  const tn::LowRank f =
      tn::weighted_low_rank(target.matrix, {target.norm.input, {}}, {plan.max_bonds.front()});
  return with_errors(w, plan, {low_rank_mpo(f.left, f.right, w.scalar_type())}, inputs);
}

FittedWeight by_fisher(const torch::Tensor& w, const plan::LayerPlan& plan,
                       const LayerInputs& inputs, const MethodOptions& options) {
  const Factors f = nearest_factors(w, plan.max_bonds.front(), inputs, options);
  return with_errors(w, plan, {low_rank_mpo(f.left, f.right, w.scalar_type())}, inputs);
}

FittedWeight by_als(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                    const MethodOptions& options) {
  const WeightedTarget target = weighted_target(w, inputs, options);
  tn::AlsResult f = tn::weighted_mpo(target.matrix, {plan.shape, plan.max_bonds, options.tolerance},
                                     target.norm, options.als);
  return with_errors(w, plan, {std::move(f.mpo)}, inputs);
}

FittedWeight by_gauss_newton(const torch::Tensor& w, const plan::LayerPlan& plan,
                             const LayerInputs& inputs, const MethodOptions& options) {
  const WeightedTarget target = weighted_target(w, inputs, options);
  const tn::Mpo start =
      tn::weighted_tt_svd(target.matrix, {plan.shape, plan.max_bonds, options.tolerance},
                          target.norm)
          .mpo;
  tn::GaussNewtonResult f = tn::gauss_newton(target.matrix, {start}, target.norm, options.fit);
  FittedWeight fitted = with_errors(w, plan, f.terms, inputs);
  fitted.gave_up = f.gave_up;
  return fitted;
}

FittedWeight by_sum(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                    const MethodOptions& options) {
  const WeightedTarget target = weighted_target(w, inputs, options);
  const std::optional<SumParts> parts = sum_parts(plan, options);
  TORCH_CHECK_VALUE(parts, "[sum] expected parameters for rank 1 and an MPO of ", options.sites,
                    " sites and bonds of 1, got ", plan.parameters(), " for ", w.sizes());
  tn::LowRankPlusMpo f = tn::low_rank_plus_mpo(
      target.matrix, target.norm,
      {.rank = parts->rank, .shape = parts->shape, .bonds = parts->bonds, .fit = options.fit});
  FittedWeight fitted = with_errors(
      w, plan, {low_rank_mpo(f.low_rank.left, f.low_rank.right, w.scalar_type()), std::move(f.mpo)},
      inputs);
  fitted.gave_up = f.gave_up;
  return fitted;
}

/// How numbers find their codes.
enum class Rounding { kNearest, kSearchedRange, kFeedback, kFeedbackOfBothSides };

/// What errors of a matrix are met by: moments of what it reads and of the gradient at what it
/// writes; undefined: none.
struct Sides {
  torch::Tensor inputs, outputs;
};

/// A M A^T.
torch::Tensor seen_through(const torch::Tensor& a, const torch::Tensor& moments) {
  if (!moments.defined()) return moments;
  return at::matmul(at::matmul(a, moments.to(a.scalar_type())), a.t());
}

Sides sides_of(const LayerInputs& inputs, Rounding rounding) {
  Sides sides;
  if (rounding < Rounding::kFeedback) return sides;
  sides.inputs = inputs.of_rows.defined() ? inputs.of_rows : inputs.moments;
  TORCH_CHECK_VALUE(sides.inputs.defined(),
                    "[compress] methods gptq and yaqa expected statistics, got none");
  if (rounding == Rounding::kFeedbackOfBothSides && inputs.gradient) {
    sides.outputs = calibrate::output_moments(*inputs.gradient, 0.0);
  }
  return sides;
}

/// Numbers as their codes; columns count so much where ranges are searched.
model::QuantizedMatrix in_integers(const torch::Tensor& w, const quant::IntegerFormat& format,
                                   Rounding rounding, const torch::Tensor& column_weights,
                                   const Sides& sides) {
  std::optional<RangeSearch> search;
  if (rounding != Rounding::kNearest) search = RangeSearch{column_weights};
  const IntegerGrid grid = grid_for(w, format, search);
  const auto feedback = [](const torch::Tensor& m) { return feedback_of(m, kFeedbackDamping); };
  const torch::Tensor codes =
      !sides.inputs.defined() ? nearest_codes(w, grid)
      : !sides.outputs.defined()
          ? gptq_codes(w, grid, feedback(sides.inputs))
          : yaqa_codes(w, grid, feedback(sides.inputs), feedback(sides.outputs));
  return packed(codes, grid, scale_type(w, format));
}

FittedWeight rounded_in(const torch::Tensor& w, const plan::LayerPlan& plan,
                        const LayerInputs& inputs, const MethodOptions& options,
                        Rounding rounding) {
  const WeightParts parts = parts_of(w, plan, inputs, options);
  const torch::Tensor weights = column_weights(inputs, w.device());
  const Sides sides = sides_of(inputs, rounding);
  RoundedParts rounded;
  if (parts.whole.defined()) {
    rounded.whole = in_integers(parts.whole, *plan.integers, rounding, weights, sides);
  }
  if (parts.left.defined()) {
    const torch::Tensor &l = parts.left, &r = parts.right;
    rounded.left = in_integers(l, plan.left_integers(), rounding, left_column_weights(r, weights),
                               {seen_through(r, sides.inputs), sides.outputs});
    rounded.right = in_integers(r, *plan.factor_integers, rounding, weights,
                                {sides.inputs, seen_through(l.t(), sides.outputs)});
  }
  return rounded_weight(w, plan, rounded, inputs);
}

FittedWeight in_nf4(const torch::Tensor& w, const plan::LayerPlan& plan,
                    const LayerInputs& inputs) {
  const model::Nf4Matrix rounded(model::nf4_encoded(w));
  const torch::Tensor approximation = rounded.decode(w.scalar_type());
  FittedWeight fitted{model::nf4_weight(plan.layer.name, rounded, w.scalar_type()),
                      relative_error(w, approximation),
                      {}};
  if (inputs.moments.defined()) fitted.weighted_error = weighted_error(w, approximation, inputs);
  return fitted;
}

FittedWeight by_nearest(const torch::Tensor& w, const plan::LayerPlan& plan,
                        const LayerInputs& inputs, const MethodOptions& options) {
  if (plan.nf4) return in_nf4(w, plan, inputs);
  return rounded_in(w, plan, inputs, options, Rounding::kNearest);
}

FittedWeight by_searched_range(const torch::Tensor& w, const plan::LayerPlan& plan,
                               const LayerInputs& inputs, const MethodOptions& options) {
  return rounded_in(w, plan, inputs, options, Rounding::kSearchedRange);
}

FittedWeight by_gptq(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                     const MethodOptions& options) {
  return rounded_in(w, plan, inputs, options, Rounding::kFeedback);
}

FittedWeight by_yaqa(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                     const MethodOptions& options) {
  return rounded_in(w, plan, inputs, options, Rounding::kFeedbackOfBothSides);
}

/// The same inputs in float64.
LayerInputs widened(LayerInputs inputs) {
  std::vector<torch::Tensor*> all = {&inputs.moments, &inputs.cross};
  if (inputs.gradient) {
    all.push_back(&inputs.gradient->moments);
    all.push_back(&inputs.gradient->outputs);
  }
  for (torch::Tensor* t : all) {
    if (t->defined()) *t = t->to(torch::kFloat64);
  }
  inputs.drift.reset();
  return inputs;
}

FittedWeight finite(FittedWeight fitted) {
  for (const model::NamedTensor& t : fitted.weight.tensors) {
    if (t.tensor.is_floating_point()) tn::check_converged(t.tensor);
  }
  return fitted;
}

FittedWeight in_dtype(FittedWeight fitted, torch::ScalarType dtype) {
  fitted.weight.tensors = model::in_dtype(std::move(fitted.weight.tensors), dtype);
  return fitted;
}

void check_sum(const plan::LayerPlan& p, const MethodOptions& options) {
  TORCH_CHECK_VALUE(
      sum_parts(p, options), "[compress] method sum expected rows and columns that divide into ",
      options.sites, " sites, and parameters for rank 1 and bonds of 1, got ", p.layer.rows, " x ",
      p.layer.cols, " and ", p.parameters(), " parameters of ", p.layer.name);
}

void check_pruned(const plan::LayerPlan& p, const MethodOptions& /*options*/) {
  TORCH_CHECK_VALUE(p.neurons && p.layer.paper_numbers == std::vector<int>{7} && !p.layer.expert,
                    "[compress] method prune expected a number of neurons of a down projection, ",
                    "got ", p.layer.name);
}

constexpr MethodSetting kTruncates[] = {MethodSetting::kTolerance};
constexpr MethodSetting kTruncatesAndSweeps[] = {MethodSetting::kTolerance, MethodSetting::kSweeps};
constexpr MethodSetting kTruncatesInRounds[] = {MethodSetting::kTolerance, MethodSetting::kRounds};
constexpr MethodSetting kInRounds[] = {MethodSetting::kRounds};
constexpr MethodSetting kInSteps[] = {MethodSetting::kSteps};

constexpr Method kMethods[] = {
    {.name = "tt-svd", .any_shape = true, .settings = kTruncates, .fit = by_tt_svd},
    {.name = "whitened", .needs_inputs = true, .fit = by_whitened_svd},
    {.name = "als",
     .needs_inputs = true,
     .any_shape = true,
     .settings = kTruncatesAndSweeps,
     .fit = by_als},
    {.name = "gauss-newton",
     .needs_inputs = true,
     .any_shape = true,
     .settings = kTruncatesInRounds,
     .fit = by_gauss_newton},
    {.name = "fisher", .needs_inputs = true, .needs_gradient = true, .fit = by_fisher},
    {.name = "sum",
     .needs_inputs = true,
     .any_shape = true,
     .one_network = false,
     .settings = kInRounds,
     .fit = by_sum,
     .check = check_sum},
    {.name = "nearest", .any_shape = true, .integers = true, .nf4 = true, .fit = by_nearest},
    {.name = "searched",
     .needs_inputs = true,
     .any_shape = true,
     .integers = true,
     .fit = by_searched_range},
    {.name = "gptq",
     .needs_inputs = true,
     .needs_gradient = true,
     .any_shape = true,
     .integers = true,
     .feeds_back = true,
     .fit = by_gptq},
    {.name = "yaqa",
     .needs_inputs = true,
     .needs_gradient = true,
     .needs_outputs = true,
     .any_shape = true,
     .integers = true,
     .feeds_back = true,
     .fit = by_yaqa},
    {.name = "learned",
     .needs_inputs = true,
     .needs_gradient = true,
     .any_shape = true,
     .integers = true,
     .learns_block = true,
     .settings = kInSteps,
     .fit = by_searched_range},
    {.name = "prune",
     .needs_inputs = true,
     .needs_gradient = true,
     .any_shape = true,
     .one_network = false,
     .prunes = true,
     .fit = prune,
     .check = check_pruned},
    {.name = "auto",
     .needs_inputs = true,
     .needs_gradient = true,
     .needs_outputs = true,
     .any_shape = true,
     .one_network = false,
     .settings = kInRounds,
     .fit = choose},
};

std::vector<const Method*>& table() {
  static std::vector<const Method*> all = [] {
    std::vector<const Method*> built_in;
    for (const Method& method : kMethods) built_in.push_back(&method);
    return built_in;
  }();
  return all;
}

}  // namespace

FittedWeight rounded_weight(const torch::Tensor& w, const plan::LayerPlan& plan,
                            const RoundedParts& rounded, const LayerInputs& inputs) {
  torch::Tensor approximation = at::zeros_like(w, at::TensorOptions(torch::kFloat32));
  if (rounded.whole) approximation += rounded.whole->decode(torch::kFloat32);
  if (rounded.left) {
    approximation.addmm_(rounded.left->decode(torch::kFloat32),
                         rounded.right->decode(torch::kFloat32));
  }
  approximation = approximation.to(w.scalar_type());
  FittedWeight fitted{
      stored_weight(plan.layer.name, rounded), relative_error(w, approximation), {}};
  if (inputs.moments.defined()) fitted.weighted_error = weighted_error(w, approximation, inputs);
  return fitted;
}

LayerInputs without_zero_norms(const torch::Tensor& w, LayerInputs inputs) {
  const auto alike = [&](int64_t size) { return at::eye(size, w.options()); };
  if (inputs.moments.defined() && inputs.moments.trace().item<double>() == 0.0) {
    inputs.moments = inputs.cross = alike(w.size(1));
    inputs.drift.reset();
  }
  if (inputs.gradient && inputs.gradient->mean_square == 0.0) {
    calibrate::GradientMoments& g = *inputs.gradient;
    g.moments = g.pulled_back ? at::matmul(w.t(), w) : alike(w.size(0));
    if (g.outputs.defined()) g.outputs = alike(w.size(0));
    g.mean_square = 1.0;
  }
  if (inputs.diagonal && inputs.diagonal->rows.sum().item<double>() == 0.0) inputs.diagonal.reset();
  return inputs;
}

nlohmann::json to_json(const MethodOptions& options) {
  return {{"tolerance", options.tolerance}, {"drift", options.drift},
          {"damping", options.damping},     {"ridge", options.ridge},
          {"sites", options.sites},         {"mpo_share", options.mpo_share},
          {"sweeps", options.als.sweeps},   {"rounds", options.fit.rounds},
          {"steps", options.steps}};
}

MethodOptions parse_method_options(const io::JsonRecord& record) {
  constexpr double kMost = 1e9;
  MethodOptions options;
  options.tolerance = record.number("tolerance", 0.0, 1.0);
  options.drift = record.number("drift", 0.0, 1.0);
  options.damping = record.number("damping", 0.0, kMost);
  options.ridge = record.number("ridge", 0.0, kMost);
  options.sites = record.integer("sites", 2, 64);
  options.mpo_share = record.number("mpo_share", 0.0, 1.0);
  options.als.sweeps = record.integer("sweeps", 0, 1'000'000);
  options.fit.rounds = record.integer("rounds", 0, 1'000'000);
  if (record.has("steps")) options.steps = record.integer("steps", 0, 1'000'000);
  return options;
}

std::optional<tn::SiteShape> mpo_shape(const plan::LayerPlan& plan, int64_t sites) {
  const int64_t m = plan.layer.rows, n = plan.layer.cols;
  if (plan.shape != tn::low_rank_shape(m, n)) return plan.shape;
  try {
    return tn::balanced_shape(m, n, sites);
  } catch (const c10::ValueError&) {
    return std::nullopt;
  }
}

std::optional<SumParts> sum_parts(const plan::LayerPlan& plan, const MethodOptions& options) {
  const auto shape = mpo_shape(plan, options.sites);
  if (!shape) return std::nullopt;
  plan::LayerPlan mpo = plan, low_rank = plan;
  const int64_t all = plan.parameters();
  const auto share = static_cast<int64_t>(options.mpo_share * static_cast<double>(all));
  mpo.shape = *shape;
  mpo.max_bonds = plan::bonds_within(mpo.shape, share, plan.fixed_gauge);
  low_rank.shape = tn::low_rank_shape(plan.layer.rows, plan.layer.cols);
  low_rank.max_bonds = plan::bonds_within(low_rank.shape, all - mpo.parameters(), plan.fixed_gauge);
  if (mpo.parameters() + low_rank.parameters() > all) return std::nullopt;
  return SumParts{low_rank.max_bonds.front(), *shape, mpo.max_bonds};
}

FittedWeight fit_layer(const Method& method, const torch::Tensor& w, const plan::LayerPlan& plan,
                       const LayerInputs& inputs, const MethodOptions& options) {
  calibrate::check_finite_moments(plan.layer.name, inputs.moments);
  calibrate::check_finite_moments(plan.layer.name, inputs.cross);
  calibrate::check_finite_moments(plan.layer.name, inputs.of_rows);
  if (inputs.gradient) calibrate::check_finite_moments(plan.layer.name, inputs.gradient->moments);
  return tn::until_it_converges(plan.layer.name, std::string(method.name), [&](bool wide) {
    if (!wide) return finite(method.fit(w, plan, inputs, options));
    return in_dtype(finite(method.fit(w.to(torch::kFloat64), plan, widened(inputs), options)),
                    w.scalar_type());
  });
}

bool Method::reads(MethodSetting setting) const {
  return std::ranges::find(settings, setting) != settings.end();
}

int64_t stored_parameters(const std::string& layer, const model::StoredWeight& weight,
                          bool fixed_gauge) {
  const model::WeightDescription description = model::describe_weight(layer, weight);
  int64_t networks = 0, all = 0;
  for (const model::NetworkShape& n : description.networks) {
    const tn::SiteShape shape{n.out_dims, n.in_dims};
    networks += fixed_gauge ? tn::gauge_fixed_parameter_count(shape, n.bonds)
                            : tn::parameter_count(shape, n.bonds);
  }
  for (const model::NamedTensor& t : weight.tensors) all += t.tensor.numel();
  if (description.parameters) return *description.parameters;
  return description.networks.empty() ? all : networks;
}

std::vector<const Method*> methods() { return table(); }

void add_method(const Method& method) {
  TORCH_CHECK_VALUE(std::ranges::find(table(), method.name, &Method::name) == table().end(),
                    "[methods] expected a new name, got ", std::string(method.name));
  table().push_back(&method);
}

const Method& find_method(std::string_view name) { return *find_named(table(), name, "method"); }

void check_methods(const std::vector<plan::LayerPlan>& layers, const std::filesystem::path& path) {
  for (const plan::LayerPlan& p : layers) {
    const auto found = std::ranges::find(table(), p.method, &Method::name);
    const std::string place = "layers." + p.layer.name + ".method";
    if (found == table().end()) {
      throw FormatError(path, place,
                        fmt::format("expected a known method, found \"{}\"", p.method));
    }
    if ((*found)->integers != p.is_rounded()) {
      throw FormatError(path, place,
                        fmt::format("expected a method {} integers, found {}",
                                    p.is_rounded() ? "of" : "without", p.method));
    }
    if ((*found)->prunes != p.neurons.has_value()) {
      throw FormatError(path, place,
                        fmt::format("expected a method {} neurons, found {}",
                                    p.neurons ? "that prunes" : "that prunes no", p.method));
    }
    if (!(*found)->any_shape && p.shape != tn::low_rank_shape(p.layer.rows, p.layer.cols)) {
      throw FormatError(path, place,
                        fmt::format("expected sites (m, 1) x (1, n) for {}", p.method));
    }
  }
}

}  // namespace schmidt::compress
