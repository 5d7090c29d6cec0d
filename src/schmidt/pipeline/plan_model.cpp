#include "schmidt/pipeline/plan_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <set>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/compress/compress.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/safetensors_layout.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/pipeline/plan_by_statistics.h"
#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/plan/preset.h"
#include "schmidt/plan/stored_specs.h"
#include "schmidt/profile/metric.h"

namespace schmidt::pipeline {
namespace {

struct Allocated {
  std::vector<plan::LayerPlan> layers;
  std::optional<double> loss, uniform_loss;
  std::string_view loss_unit = {};
};

double keep_asked(const PlanRecipe& recipe, const plan::Outline& model) {
  if (recipe.keep) return *recipe.keep;
  if (!recipe.preset.empty()) return plan::find_preset(recipe.preset).keep;
  return std::min(
      1.0, *recipe.bytes / recipe.bytes_per_scalar() / static_cast<double>(model.parameters));
}

std::vector<std::string> left_alone(const PlanRecipe& recipe) {
  std::vector<std::string> patterns = recipe.protect;
  patterns.insert(patterns.end(), recipe.ignore.begin(), recipe.ignore.end());
  if (!recipe.preset.empty()) {
    patterns.emplace_back(plan::find_preset(recipe.preset).ignore);
  } else if (!recipe.profile && recipe.ignore.empty()) {
    patterns.emplace_back("L7");  // as in the paper, where nothing says how sensitive it is
  }
  return patterns;
}

/// `least`: parameters of `layers` at their cheapest.
void check_reach(const PlanRecipe& recipe, const plan::Outline& model,
                 const std::vector<plan::Layer>& layers, int64_t least, double keep) {
  if (!recipe.preset.empty()) {
    plan::check_reach(plan::find_preset(recipe.preset), model, layers, least);
  }
  int64_t reached = model.parameters + least;
  for (const plan::Layer& layer : layers) reached -= layer.numel();
  const auto nearest = static_cast<double>(reached);
  const auto whole = static_cast<double>(model.parameters);
  TORCH_CHECK_VALUE(
      nearest <= keep * whole, "[plan] ",
      fmt::format("{:.4g} of the parameters is out of reach: the least that can be kept is {:.4f}, "
                  "{:.1f} MB at {} bytes each",
                  keep, std::ceil(1e4 * nearest / whole) / 1e4,
                  1e-6 * nearest * recipe.bytes_per_scalar(), recipe.bytes_per_scalar()));
}

/// The same share of every layer.
std::vector<plan::LayerPlan> plan_uniformly(const PlanRecipe& recipe, const plan::Outline& model,
                                            const std::vector<plan::Layer>& layers,
                                            const plan::ShapeChoice& shape,
                                            const std::string& method, double keep) {
  int64_t least = 0;
  for (const auto& p : plan::plan_bond(layers, shape, 1)) least += p.parameters();
  check_reach(recipe, model, layers, least, keep);
  auto plan = plan::plan_keep(layers, shape, keep, model.parameters);
  for (plan::LayerPlan& p : plan) p.method = method;
  return plan;
}

Allocated without_profile(const PlanRecipe& recipe, const plan::Outline& model,
                          const std::vector<std::string>& alone, double keep) {
  std::vector<plan::Layer> layers = model.layers;
  std::erase_if(layers, [&](const auto& layer) { return named(alone, layer); });
  check_any(layers);
  return {plan_uniformly(recipe, model, layers, recipe.shape, "tt-svd", keep), {}, {}};
}

/// As a profile has cut a layer.
plan::ShapeChoice shape_of(const plan::LayerPlan& network) {
  plan::ShapeChoice shape;
  shape.sites = network.shape.sites();
  shape.low_rank = network.shape == tn::low_rank_shape(network.layer.rows, network.layer.cols);
  shape.fixed_gauge = network.fixed_gauge;
  return shape;
}

Allocated with_profile(const PlanRecipe& recipe, const plan::Outline& model,
                       const std::vector<std::string>& alone, double keep) {
  const profile::Profile read = profile::read_profile(*recipe.profile);
  TORCH_CHECK_VALUE(!model.fingerprint || *model.fingerprint == read.model,
                    "[plan] expected a profile of ", model.path.string(), ", got ",
                    recipe.profile->string(), ", made from another model");
  const std::string_view unit = profile::find_metric(read.metric).loss_unit;
  auto measured = profile::sensitivities(read, model.layers);
  std::erase_if(measured, [&](const auto& s) { return named(alone, s.network.layer); });
  std::vector<plan::Layer> layers;
  for (const auto& s : measured) layers.push_back(s.network.layer);
  check_any(layers);

  const plan::LayerPlan& network = measured.front().network;
  const auto uniform = [&] {
    return plan_uniformly(recipe, model, layers, shape_of(network), network.method, keep);
  };
  if (!recipe.allocates()) {
    Allocated control{uniform(), {}, {}, unit};
    control.loss = profile::predicted_loss(measured, control.layers);
    return control;
  }
  check_reach(recipe, model, layers, profile::least_parameters(measured, recipe.limits), keep);
  const double whole = static_cast<double>(model.parameters);
  int64_t budget = static_cast<int64_t>(std::floor(keep * whole)) - model.parameters;
  for (const auto& layer : layers) budget += layer.numel();
  profile::ProfilePlan plan = profile::plan_by_profile(measured, budget, recipe.limits);
  return {std::move(plan.layers), plan.loss, profile::predicted_loss(measured, uniform()), unit};
}

/// Integers as quantizing makes them, but for their method, which `recipe` may name.
QuantizeRecipe integers_of(const PlanRecipe& recipe, int bits) {
  QuantizeRecipe integers;
  integers.bits = bits;
  if (recipe.forms.group > 0) integers.group = recipe.forms.group;
  integers.method = recipe.method;
  integers.vocabulary_bits = 8;
  return integers;
}

/// All weights in integers.
Allocated in_integers(const PlanRecipe& recipe, const plan::Outline& model, int bits) {
  TORCH_CHECK_VALUE(!recipe.profile, "[plan] expected no profile for integers alone");
  TORCH_CHECK_VALUE(recipe.method.empty() || compress::find_method(recipe.method).integers,
                    "[plan] method ", recipe.method, " makes no integers of few bits");
  std::vector<plan::Layer> layers = plan::dense_vocabulary(model.config);
  std::ranges::copy(model.layers, std::back_inserter(layers));
  const std::vector<std::string> alone = left_alone(recipe);
  std::erase_if(layers, [&](const auto& layer) { return named(alone, layer); });
  check_any(layers);
  return {integer_plan(integers_of(recipe, bits), layers), {}, {}};
}

/// The block layers that are left, in int4 by their nearest codes.
void add_rest_in_int4(const PlanRecipe& recipe, const plan::Outline& model,
                      std::vector<plan::LayerPlan>& plans) {
  std::set<std::string> planned;
  for (const plan::LayerPlan& p : plans) {
    planned.insert(p.layer.members.begin(), p.layer.members.end());
  }
  std::vector<plan::Layer> rest = model.layers;
  std::erase_if(rest, [&](const plan::Layer& layer) { return planned.contains(layer.name); });
  QuantizeRecipe integers = integers_of(recipe, 4);
  integers.method = "nearest";
  std::ranges::move(integer_plan(integers, rest), std::back_inserter(plans));
  std::ranges::stable_sort(plans, {},
                           [](const plan::LayerPlan& p) { return plan::place_in_model(p.layer); });
}

Allocated allocate(const PlanRecipe& recipe, const plan::Outline& model, double keep) {
  TORCH_CHECK_VALUE(keep > 0.0 && keep <= 1.0, "[keep] expected a share in (0, 1], got ", keep);
  const plan::Preset* preset = recipe.preset.empty() ? nullptr : &plan::find_preset(recipe.preset);
  if (preset != nullptr && preset->bits > 0) return in_integers(recipe, model, preset->bits);
  const std::vector<std::string> alone = left_alone(recipe);
  Allocated allocated = recipe.profile ? with_profile(recipe, model, alone, keep)
                                       : without_profile(recipe, model, alone, keep);
  for (plan::LayerPlan& p : allocated.layers) {
    if (!recipe.method.empty()) p.method = recipe.method;
    TORCH_CHECK_VALUE(compress::find_method(p.method).any_shape ||
                          p.shape == tn::low_rank_shape(p.layer.rows, p.layer.cols),
                      "[plan] method ", p.method, " has the shape (m, 1) x (1, n) alone; expected ",
                      "low-rank");
    TORCH_CHECK_VALUE(!compress::find_method(p.method).integers, "[plan] method ", p.method,
                      " makes integers of few bits; expected one that makes networks");
  }
  if (preset != nullptr && preset->mixed_int4) add_rest_in_int4(recipe, model, allocated.layers);
  return allocated;
}

void check(const PlanRecipe& recipe, const plan::Outline& model) {
  TORCH_CHECK_VALUE((recipe.keep ? 1 : 0) + (recipe.bytes ? 1 : 0) + !recipe.preset.empty() == 1,
                    "[plan] expected one budget: a share, bytes or a preset");
  TORCH_CHECK_VALUE(
      (recipe.limits.floor == 0.0 && recipe.limits.ceiling == 1.0) || recipe.allocates(),
      "[plan] expected a floor and a ceiling for a plan by a profile alone, got a uniform one");
  std::vector<plan::Layer> patterned = model.layers;
  for (const plan::Layer& stacked : plan::share_inputs(model.layers)) patterned.push_back(stacked);
  plan::check_patterns("protect", recipe.protect, patterned);
  plan::check_patterns("ignore", recipe.ignore, patterned);
}

nlohmann::json predicted(const PlanRecipe& recipe, const plan::Outline& model,
                         const plan::Footprint& f, const Allocated& allocated, int64_t bytes) {
  nlohmann::json out = {{"parameters", f.parameters},
                        {"tensorized_parameters", f.tensorized},
                        {"tensorized_before", f.tensorized_before},
                        {"bytes_float32", f.bytes(4)},
                        {"bytes_float16", f.bytes(2)},
                        {"bytes", bytes},
                        {"kv_cache_bytes", plan::kv_cache_bytes(model.config, recipe.context, 2)},
                        {"kv_cache_context", recipe.context},
                        {"healing_tokens", recipe.heal_tokens},
                        {"healing_flops", f.healing_flops() * recipe.heal_tokens}};
  if (allocated.loss) out["loss"] = *allocated.loss;
  if (allocated.uniform_loss) out["uniform_loss"] = *allocated.uniform_loss;
  return out;
}

/// Whether no number of the model takes more than 2 bytes as it is read.
bool is_in_16_bits(const plan::Outline& model) {
  return std::ranges::none_of(model.tensors, [](const auto& named) {
    const torch::ScalarType dtype = named.second.dtype;
    return isFloatingType(dtype) && c10::elementSize(dtype) > 2;
  });
}

/// What `compress` is to write: a budget in bytes asks for no more than 2 of them a weight.
std::string stored_dtype(const PlanRecipe& recipe, const plan::Outline& model) {
  if (!recipe.dtype.empty()) return recipe.dtype;
  if (recipe.preset.empty() && !recipe.bytes) return "";
  if (!recipe.preset.empty()) {
    const plan::Preset& preset = plan::find_preset(recipe.preset);
    if (preset.float32) return "float32";
    if (preset.bits > 0) return "";
  }
  return is_in_16_bits(model) ? "" : "bfloat16";
}

/// Of all weights' files, as `compress` writes them.
int64_t bytes_written(const plan::Outline& model, const std::vector<plan::LayerPlan>& layers,
                      const std::string& dtype) {
  std::optional<torch::ScalarType> stored;
  if (!dtype.empty()) stored = dtype == "float32" ? torch::kFloat32 : torch::kBFloat16;
  return static_cast<int64_t>(
      io::written_bytes(plan::written_tensors(model.tensors, layers, stored)));
}

}  // namespace

PlanOutcome predict_plan(const plan::Outline& model, const PlanRecipe& recipe) {
  check(recipe, model);

  double keep = keep_asked(recipe, model);
  Allocated allocated = allocate(recipe, model, keep);
  plan::Footprint footprint = plan::footprint(model, allocated.layers);
  // Pivots are bytes too, and known only once there is a plan.
  for (int i = 0; i < 4 && recipe.bytes; ++i) {
    const double over = footprint.bytes(recipe.bytes_per_scalar()) - *recipe.bytes;
    if (over <= 0) break;
    keep -= over / recipe.bytes_per_scalar() / static_cast<double>(model.parameters);
    allocated = allocate(recipe, model, keep);
    footprint = plan::footprint(model, allocated.layers);
  }
  compress::check_plan(allocated.layers, {});
  const double kept =
      static_cast<double>(footprint.parameters) / static_cast<double>(model.parameters);
  const std::string dtype = stored_dtype(recipe, model);
  const int64_t bytes = bytes_written(model, allocated.layers, dtype);
  return {{allocated.layers, kept, to_json(recipe),
           predicted(recipe, model, footprint, allocated, bytes), dtype},
          footprint,
          allocated.loss,
          allocated.uniform_loss,
          allocated.loss_unit,
          static_cast<double>(bytes)};
}

PlanOutcome plan_model(const plan::Outline& model, const PlanRecipe& recipe,
                       const std::filesystem::path& out, bool force) {
  if (recipe.statistics) return plan_by_statistics(model, recipe, out, force);
  std::vector<InputPath> inputs = {{"the model", model.path}};
  if (recipe.profile) inputs.push_back({"the profile", *recipe.profile});
  const std::filesystem::path place = output_file(out, force, inputs);
  PlanOutcome outcome = predict_plan(model, recipe);
  plan::write_plan(place, outcome.file, model);
  return outcome;
}

}  // namespace schmidt::pipeline
