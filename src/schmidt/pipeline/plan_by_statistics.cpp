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
#include "schmidt/pipeline/pruning.h"
#include "schmidt/pipeline/time_plan.h"
#include "schmidt/report/frontier_figure.h"

namespace schmidt::pipeline {
namespace {

constexpr int64_t kLargestGroup = 128;  // of integers that compete where the recipe names none

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

/// The forms that are priced. For bytes all kinds of integers are, for the figure; the plan takes
/// those that were asked for. Time is saved by integers and by factors.
Competition compete_for(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                        const PlanRecipe& recipe) {
  ByteBudget everything = budget_of(recipe);
  const bool factors = recipe.forms.kinds && recipe.forms.kinds->factors;
  everything.rules.kinds =
      recipe.bytes
          ? compress::FormKinds{.low_rank = true, .sums = true, .factors = factors}
          : recipe.forms.kinds.value_or(compress::FormKinds{.whole = true, .factors = true});
  return compete(model, layers, everything);
}

/// The times of the forms. Throws where the recipe's speedup is out of reach.
StepTimes times_for(const io::Checkpoint& model, const Competition& all, const PlanRecipe& recipe) {
  StepTimes times = measure_times(model, all, recipe.workload);
  const double fastest =
      recipe.neurons ? fastest_pruned({all, times}) : TimePlanner(all, times).fastest();
  check_reached(*recipe.speedup / recipe.reach, fastest);
  return times;
}

/// What neurons cost, where they may go.
NeuronCurves curves_for(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                        const PlanRecipe& recipe, const calibrate::Statistics& statistics,
                        const Reporter& reporter) {
  if (!recipe.neurons) return {};
  const int64_t group = recipe.forms.group > 0 ? recipe.forms.group : kLargestGroup;
  return in_groups(neuron_curves(model, layers, statistics, {}, reporter), group);
}

/// The lower envelope of frontiers whose losses are those of what prunings leave.
template <typename FrontierOfLeft>
Frontier with_fewer_neurons(const NeuronCurves& curves, const FrontierOfLeft& frontier_of_left) {
  std::vector<plan::Price> all;
  for (const Pruning& pruning : possible_prunings(curves)) {
    for (const plan::Price& point : frontier_of_left(pruning).points) {
      all.push_back({point.cost, point.loss + pruning.loss});
    }
  }
  std::ranges::sort(all, {}, [](const plan::Price& p) { return std::pair(p.cost, p.loss); });
  Frontier frontier{"with fewer neurons", {}};
  for (const plan::Price& point : all) {
    const bool better = frontier.points.empty() || point.loss < frontier.points.back().loss;
    if (better) frontier.points.push_back(point);
  }
  return frontier;
}

/// What a budget buys, and what others of its kind would.
struct Bought {
  Pruning pruning;
  plan::BytePlan plan;  ///< of what it leaves
  std::optional<double> speedup;
  std::vector<Frontier> frontiers;
};

Bought with_time(const Market& all, const NeuronCurves& curves, const PlanRecipe& recipe) {
  const auto planner_of = [&](const Market& left) {
    return TimePlanner(left.forms, left.times, all.times.original());
  };
  Bought bought;
  bought.pruning = choose_pruning(curves, all, *recipe.speedup);
  const Market left = left_by(bought.pruning, all);
  const TimePlanner planner = planner_of(left);
  bought.plan = planner.plan(*recipe.speedup, recipe.reach);
  bought.speedup = planner.speedup_at(bought.plan.cost);
  bought.frontiers = {planner_of(all).frontier("the forms asked for")};
  if (!curves.empty()) {
    bought.frontiers.push_back(with_fewer_neurons(curves, [&](const Pruning& pruning) {
      const Market of_it = left_by(pruning, all);
      return planner_of(of_it).frontier({});
    }));
  }
  return bought;
}

Bought with_bytes(const Market& all, const ByteBudget& budget, const NeuronCurves& curves) {
  Bought bought;
  bought.pruning = choose_pruning(curves, all, budget);
  bought.plan = spend(left_by(bought.pruning, all).forms, budget);
  bought.frontiers = {frontier_of(all.forms, "all forms"),
                      frontier_of(all.forms.narrowed({true, false, false}), "integers alone"),
                      frontier_of(all.forms.narrowed({false, true, false}), "low rank alone")};
  if (!curves.empty()) {
    bought.frontiers.push_back(with_fewer_neurons(curves, [&](const Pruning& pruning) {
      return frontier_of(left_by(pruning, all).forms, {});
    }));
  }
  return bought;
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
  times_for(model, all, recipe);
}

PlanOutcome plan_by_statistics(const plan::Outline& outline, const PlanRecipe& recipe,
                               const std::filesystem::path& out, bool force,
                               const Reporter& reporter) {
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
  if (recipe.neurons) check_prunable(outline.config, layers);
  Market all{compete_for(model, layers, recipe)};
  if (recipe.speedup) all.times = times_for(model, all.forms, recipe);
  predict_losses(all.forms, model, statistics, {});
  const NeuronCurves curves = curves_for(model, layers, recipe, statistics, reporter);
  const Bought bought =
      recipe.speedup ? with_time(all, curves, recipe) : with_bytes(all, budget, curves);

  PlanOutcome outcome;
  outcome.bytes = static_cast<double>(bought.plan.bytes + all.forms.rest);
  outcome.loss = bought.plan.loss + bought.pruning.loss;
  outcome.loss_unit = "nats a token";
  outcome.speedup = bought.speedup;
  outcome.frontiers = bought.frontiers;
  outcome.figure = figure;
  outcome.file.made_by = made_by(recipe, statistics.fingerprint());
  outcome.file.dtype = recipe.dtype == "float32" ? "float32" : "bfloat16";
  // Where nothing is left to be done, fewer neurons are the plan.
  const bool two_steps = !bought.plan.layers.empty();
  if (two_steps) outcome.file.pruning = bought.pruning.layers;
  outcome.file.layers = two_steps ? bought.plan.layers : bought.pruning.layers;
  const char* points = recipe.speedup ? "nanoseconds_and_loss" : "bytes_and_loss";
  outcome.file.predicted = {{"bytes", outcome.bytes},
                            {"loss", *outcome.loss},
                            {"frontiers", to_json(outcome.frontiers, points)}};
  if (outcome.speedup) outcome.file.predicted["speedup"] = *outcome.speedup;
  const report::CostAxis axis =
      recipe.speedup
          ? report::CostAxis{"What time is predicted to cost",
                             fmt::format("ms of a step of {}",
                                         recipe.workload.prefill ? "prefill" : "decoding"),
                             "ms"}
          : report::kMegabytes;
  const std::string drawn = figure_of(outcome.frontiers, 1e6, axis);
  outcome.footprint = plan::footprint(outline, {});
  write_file_atomically(figure, drawn);
  plan::write_plan(place, outcome.file, outline);
  return outcome;
}

}  // namespace schmidt::pipeline
