#include "schmidt/pipeline/plan_by_statistics.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/calibrate/statistics.h"
#include "schmidt/compress/methods.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/pipeline/time_plan.h"
#include "schmidt/report/frontier_figure.h"

namespace schmidt::pipeline {
namespace {

/// The least predicted loss for bytes from the smallest forms up to 16 bits a number.
Frontier frontier_of(const Competition& competition, const std::string& name) {
  const auto least = static_cast<double>(competition.least_bytes());
  auto most = static_cast<double>(competition.rest);
  for (const plan::LayerForms& layer : competition.layers) {
    most += static_cast<double>(std::ranges::max(layer.forms, {}, &plan::Form::bytes).bytes);
  }
  Frontier frontier{name, {}};
  for (int i = 0; i < kFrontierPoints; ++i) {
    const double bytes =
        std::ceil(least * std::pow(most / least, static_cast<double>(i) / kFrontierPoints));
    const plan::BytePlan bought = competition.plan(bytes);
    frontier.points.push_back({bought.bytes + competition.rest, bought.loss});
  }
  return frontier;
}

nlohmann::json to_json(const std::vector<Frontier>& frontiers, const std::string& points_of) {
  nlohmann::json all = nlohmann::json::array();
  for (const Frontier& frontier : frontiers) {
    nlohmann::json points = nlohmann::json::array();
    for (const plan::Price& point : frontier.points) points.push_back({point.cost, point.loss});
    all.push_back({{"name", frontier.name}, {points_of, points}});
  }
  return all;
}

/// `unit`: what a point's cost is divided by.
std::string figure_of(const std::vector<Frontier>& frontiers, double unit,
                      const report::CostAxis& axis) {
  std::vector<report::FrontierCurve> curves;
  for (const Frontier& frontier : frontiers) {
    curves.push_back({frontier.name, {}});
    for (const plan::Price& point : frontier.points) {
      curves.back().points.emplace_back(static_cast<double>(point.cost) / unit, point.loss);
    }
  }
  return report::frontier_svg(curves, axis);
}

/// The layers that a recipe leaves to be planned.
std::vector<plan::Layer> planned_layers(const plan::Outline& outline, const PlanRecipe& recipe) {
  std::vector<std::string> alone = recipe.protect;
  alone.insert(alone.end(), recipe.ignore.begin(), recipe.ignore.end());
  std::vector<plan::Layer> layers = outline.layers;
  std::ranges::copy(plan::dense_vocabulary(outline.config), std::back_inserter(layers));
  plan::check_patterns("protect", alone, layers);
  std::erase_if(layers, [&](const plan::Layer& layer) { return named(alone, layer); });
  check_any(layers);
  return layers;
}

void check(const plan::Outline& outline, const PlanRecipe& recipe) {
  TORCH_CHECK_VALUE(recipe.bytes.has_value() != recipe.speedup.has_value() && !recipe.profile,
                    "[plan] statistics expected a budget in bytes or time, and no profile");
  if (recipe.speedup) check_speedup(*recipe.speedup, outline.config);
}

ByteBudget budget_of(const PlanRecipe& recipe) {
  return {recipe.bytes.value_or(std::numeric_limits<double>::max()), recipe.forms,
          recipe.method.empty() ? "learned" : recipe.method,
          recipe.dtype == "float32" ? torch::kFloat32 : torch::kBFloat16};
}

/// The forms that are priced. For bytes all kinds are, for the figure; the plan takes those that
/// were asked for.
Competition compete_for(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                        const PlanRecipe& recipe) {
  ByteBudget everything = budget_of(recipe);
  everything.rules.kinds = recipe.bytes ? compress::FormKinds{true, true, true}
                                        : recipe.forms.kinds.value_or(compress::FormKinds{});
  return compete(model, layers, everything);
}

/// Throws where the recipe's speedup is out of reach.
TimePlanner time_planner(const io::Checkpoint& model, const Competition& all,
                         const PlanRecipe& recipe) {
  TimePlanner planner(all, measure_times(model, all, recipe.workload));
  planner.plan(*recipe.speedup, recipe.reach);
  return planner;
}

}  // namespace

nlohmann::json made_by(const PlanRecipe& recipe, const std::string& statistics) {
  nlohmann::json made = to_json(recipe);
  made["statistics"] = statistics;
  made["forms"] = names_of(recipe.forms.kinds);
  made["group"] = recipe.forms.group;
  made["symmetric"] = recipe.forms.symmetric;
  made["method"] = budget_of(recipe).method;
  made["dtype"] = recipe.dtype;
  return made;
}

void check_speedup(const plan::Outline& outline, const PlanRecipe& recipe) {
  check(outline, recipe);
  const io::Checkpoint model = io::Checkpoint::open(outline.path);
  const Competition all = compete_for(model, planned_layers(outline, recipe), recipe);
  time_planner(model, all, recipe);
}

PlanOutcome plan_by_statistics(const plan::Outline& outline, const PlanRecipe& recipe,
                               const std::filesystem::path& out, bool force) {
  check(outline, recipe);
  const std::vector<InputPath> inputs = {{"the model", outline.path},
                                         {"the statistics", *recipe.statistics}};
  const std::filesystem::path place = output_file(out, force, inputs);
  const std::filesystem::path figure =
      output_file(std::filesystem::path(out).replace_extension(".svg"), force, inputs);
  const io::Checkpoint model = io::Checkpoint::open(outline.path);
  const calibrate::Statistics statistics = calibrate::Statistics::open(*recipe.statistics, model);
  const std::vector<plan::Layer> layers = planned_layers(outline, recipe);

  const ByteBudget budget = budget_of(recipe);
  TORCH_CHECK_VALUE(compress::find_method(budget.method).integers, "[plan] method ", budget.method,
                    " makes no integers of few bits, which statistics spend bytes on");
  compete(model, layers, budget);  // throws where the budget is out of reach
  Competition all = compete_for(model, layers, recipe);

  PlanOutcome outcome;
  plan::BytePlan bought;
  std::string drawn;
  std::string points = "bytes_and_loss";
  if (recipe.speedup) {
    const TimePlanner planner = time_planner(model, all, recipe);
    predict_losses(all, model, statistics, {});
    bought = planner.plan(*recipe.speedup, recipe.reach);
    outcome.speedup = planner.speedup_at(bought.cost);
    outcome.frontiers = {planner.frontier("the forms asked for")};
    points = "nanoseconds_and_loss";
    drawn = figure_of(
        outcome.frontiers, 1e6,
        {"What time is predicted to cost",
         fmt::format("ms of a step of {}", recipe.workload.prefill ? "prefill" : "decoding"),
         "ms"});
  } else {
    predict_losses(all, model, statistics, {});
    bought = spend(all, budget);
    outcome.frontiers = {frontier_of(all, "all forms"),
                         frontier_of(all.narrowed({true, false, false}), "integers alone"),
                         frontier_of(all.narrowed({false, true, false}), "low rank alone")};
    drawn = figure_of(outcome.frontiers, 1e6, report::kMegabytes);
  }
  const auto bytes = static_cast<double>(bought.bytes + all.rest);

  outcome.bytes = bytes;
  outcome.loss = bought.loss;
  outcome.loss_unit = "nats a token";
  outcome.figure = figure;
  outcome.file = {
      bought.layers,
      1.0,
      made_by(recipe, statistics.fingerprint()),
      {{"bytes", bytes}, {"loss", bought.loss}, {"frontiers", to_json(outcome.frontiers, points)}},
      recipe.dtype == "float32" ? "float32" : "bfloat16"};
  if (outcome.speedup) outcome.file.predicted["speedup"] = *outcome.speedup;
  outcome.footprint = plan::footprint(outline, {});
  write_file_atomically(figure, drawn);
  plan::write_plan(place, outcome.file, outline);
  return outcome;
}

}  // namespace schmidt::pipeline
