#include "schmidt/pipeline/compress_model.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <limits>

#include <ATen/ops/ones.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/work_folder.h"
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/io/json.h"
#include "schmidt/model/config.h"
#include "schmidt/model/require_model.h"
#include "schmidt/package/checkpoint_folder.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/package/summary.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/pipeline/plan_for_speed.h"
#include "schmidt/pipeline/pruning.h"
#include "schmidt/pipeline/statistics.h"
#include "schmidt/plan/allocate.h"
#include "schmidt/plan/plan_file.h"

namespace schmidt::pipeline {
namespace {

/// No layer falls below this share of its full rank: there a quadratic prediction of
/// the loss says nothing any more.
constexpr double kLeastRankShare = 0.02;

constexpr int64_t kSmallestGroup = 32;  // of those that compete where the recipe names none

std::vector<plan::Layer> layers_of(const io::Checkpoint& model, const CompressRecipe& recipe) {
  std::vector<plan::Layer> layers;
  if (recipe.plan) {
    for (const plan::LayerPlan& p : recipe.plan->layers) layers.push_back(p.layer);
    for (const plan::LayerPlan& p : recipe.pruning) {
      const auto same = [&](const plan::Layer& layer) { return layer.name == p.layer.name; };
      if (std::ranges::none_of(layers, same)) layers.push_back(p.layer);
    }
    return layers;
  }
  const auto dense = plan::dense_layers(model);
  plan::check_patterns("ignore", recipe.selection.ignore, dense);
  layers = plan::select_layers(dense, recipe.selection);
  if (recipe.buys_forms()) {
    const auto config = model::parse_config(model.config(), model.path());
    std::ranges::copy(plan::dense_vocabulary(config), std::back_inserter(layers));
    return layers;
  }
  return recipe.share_inputs ? plan::share_inputs(layers) : layers;
}

/// The plan, where it is known without calibration.
std::vector<plan::LayerPlan> plan_ahead(const CompressRecipe& recipe,
                                        const std::vector<plan::Layer>& layers,
                                        int64_t parameters) {
  std::vector<plan::LayerPlan> plan;
  if (recipe.plan) {
    plan = recipe.plan->layers;
  } else if (recipe.bond) {
    plan = plan::plan_bond(layers, recipe.shape, *recipe.bond);
  } else {
    plan = plan::plan_keep(layers, recipe.shape, *recipe.keep, parameters);
  }
  if (!recipe.method.empty()) {
    for (plan::LayerPlan& p : plan) {
      if (p.layer.block >= 0) p.method = recipe.method;
    }
  }
  return plan;
}

/// The plan by the layers' losses at each rank, of squares that are dropped, and by neurons'.
plan::CurvePlan plan_by_losses(const CompressRecipe& recipe, const std::vector<plan::Layer>& layers,
                               int64_t parameters, const NeuronCurves& neurons,
                               const std::function<torch::Tensor(const plan::Layer&)>& squares) {
  const bool fixed_gauge = recipe.shape.fixed_gauge;
  std::vector<plan::LayerCurve> curves;
  for (const plan::Layer& layer : layers) {
    if (!has_neurons(neurons, layer)) {
      curves.push_back(plan::predicted_curve(layer, squares(layer), kLeastRankShare, fixed_gauge));
    } else if (const plan::LayerCurve& curve = neurons.at(layer.block);
               curve.layer.name == layer.name) {
      curves.push_back(curve);
    }
  }
  return plan::plan_by_curves(curves, *recipe.keep, parameters, recipe.method, fixed_gauge);
}

plan::CurvePlan plan_by_spectra(const io::Checkpoint& model, const CompressRecipe& recipe,
                                const std::vector<plan::Layer>& layers,
                                const calibrate::Statistics& statistics, int64_t parameters,
                                const Reporter& reporter) {
  NeuronCurves neurons;
  if (recipe.mlp == MlpForm::kNeurons) {
    neurons = neuron_curves(model, layers, statistics, recipe.fit, reporter);
  }
  return plan_by_losses(recipe, layers, parameters, neurons,
                        [&](const plan::Layer& layer) { return statistics.squares(layer); });
}

/// Throws what `plan_by_spectra` would, before anything is known.
void check_keep(const CompressRecipe& recipe, const std::vector<plan::Layer>& layers,
                int64_t parameters) {
  const bool prunes = recipe.mlp == MlpForm::kNeurons;
  plan_by_losses(recipe, layers, parameters, prunes ? unmeasured_neurons(layers) : NeuronCurves(),
                 [](const plan::Layer& layer) {
                   return at::ones({std::min(layer.rows, layer.cols)}, at::kDouble);
                 });
}

/// Of bytes; for a budget of time any number of them.
ByteBudget budget_of(const CompressRecipe& recipe) {
  ByteBudget budget{recipe.bytes.value_or(std::numeric_limits<double>::max()), recipe.forms,
                    recipe.method, recipe.dtype};
  if (!recipe.bytes && !budget.rules.kinds) budget.rules.kinds.emplace();
  return budget;
}

void check_allocation(const CompressRecipe& recipe) {
  const bool by_spectra = recipe.allocation == Allocation::kSensitivity && !recipe.share_inputs;
  TORCH_CHECK_VALUE(
      recipe.mlp == MlpForm::kLowRank || recipe.buys_forms() || recipe.plan || by_spectra,
      "[mlp] neurons are pruned for bytes or time, and where sensitivity allocates to layers one "
      "by one");
  if (recipe.allocation == Allocation::kUniform) return;
  TORCH_CHECK_VALUE(recipe.keep && compress::find_method(recipe.method).needs_gradient,
                    "[allocation] sensitivity is known to the methods fisher and auto at a share "
                    "of the parameters, got the method ",
                    recipe.method, recipe.bond ? " and a bond" : "");
  TORCH_CHECK_VALUE(!recipe.shape.by_hand && recipe.shape.low_rank,
                    "[sites] expected uniform allocation with sites by hand or balanced ones, "
                    "since sensitivity is known of low ranks only");
}

/// Whether the plan was made by the statistics that the run names: they know its layers, and more.
bool planned_by_them(const CompressRecipe& recipe, const CompressRun& run) {
  if (!recipe.plan || !run.statistics) return false;
  const std::string planned = recipe.plan->made_by.value("statistics", std::string());
  return !planned.empty() && planned == calibrate::fingerprint_in(*run.statistics);
}

/// The forms that compete, and how long each takes here where time is spent.
struct Market {
  Competition forms;
  std::optional<StepTimes> times;
};

/// The pruning that is predicted to pay where a budget is spent on integers, where these fit, or on
/// the forms that the recipe names.
Pruning bought_pruning(const io::Checkpoint& model, const CompressRecipe& recipe,
                       const std::vector<plan::Layer>& layers, const Market& market,
                       const calibrate::Statistics& statistics, const Reporter& reporter) {
  ByteBudget budget = budget_of(recipe);
  Competition predicted = market.forms;
  if (!budget.rules.kinds) {
    Competition integers = predicted.narrowed({});
    if (static_cast<double>(integers.least_bytes()) <= budget.bytes) {
      predicted = std::move(integers);
      budget.rules.kinds.emplace();
    }
  }
  predict_losses(predicted, model, statistics, recipe.fit);
  const int64_t group = budget.rules.group > 0 ? budget.rules.group : kSmallestGroup;
  const NeuronCurves curves =
      in_groups(neuron_curves(model, layers, statistics, recipe.fit, reporter), group);
  return market.times ? choose_pruning(curves, predicted, *market.times, *recipe.speedup)
                      : choose_pruning(curves, predicted, budget);
}

/// Planned layers as `log` and plan files hold them, for the model that they are to be found in.
std::vector<plan::LayerPlan> planned_in(const nlohmann::json& object, const io::Checkpoint& model) {
  return plan::read_planned(io::JsonRecord(object, "", model.path()), plan::outline(model));
}

/// What the first rank makes, for all: predictions differ in their last digits between machines.
Pruning of_first_rank(const io::Checkpoint& model, const std::function<Pruning()>& make) {
  if (parallel::size() == 1) return make();
  nlohmann::json sent;
  if (parallel::rank() == 0) {
    const Pruning made = make();
    sent = {{"layers", plan::planned_json(made.layers)},
            {"loss", made.loss},
            {"speedup", made.speedup}};
  }
  const auto received = nlohmann::json::parse(parallel::broadcast(sent.dump()));
  return {{planned_in(received, model), received.at("loss").get<double>()},
          received.at("speedup").get<double>()};
}

/// Of the log in a pruned model's config.json: "prune", for what, whose neurons it lost at which
/// predicted loss, and the speedup that is left to be bought.
nlohmann::json pruning_log(const io::Checkpoint& model, const CompressRecipe& recipe,
                           const torch::Tensor& windows) {
  nlohmann::json asked = to_json(recipe);
  if (recipe.speedup) asked["speed"] = asked_of_speed(recipe);
  return {{"verb", "prune"},
          {"program", "schmidt " SCHMIDT_VERSION},
          {"model", package::fingerprint(model)},
          {"text", package::Fingerprint().add(windows).hex()},
          {"for", asked}};
}

/// The log of an earlier run's pruning for the same, where it has left its model there. Throws
/// c10::ValueError where something else lies there; with `force` whatever lies there is dropped.
std::optional<nlohmann::json> pruned_already(const std::filesystem::path& pruned,
                                             const nlohmann::json& log, bool force) {
  if (force || !path_exists(pruned)) return std::nullopt;
  const auto config = pruned / "config.json";
  nlohmann::json found = nlohmann::json::object();
  try {
    if (path_exists(config)) found = io::read_json_object(config);
  } catch (const FormatError&) {  // then it is something else
  }
  const nlohmann::json made_by =
      found.value(nlohmann::json::json_pointer("/compression_config/made_by"), nlohmann::json());
  if (made_by.is_array() && !made_by.empty() && made_by.back().is_object()) {
    nlohmann::json last = made_by.back();
    for (const char* key : {"predicted_loss", "layers", "speedup_left"}) last.erase(key);
    if (last == log) return made_by.back();
  }
  TORCH_CHECK_VALUE(false, "[output] ", pruned.string(),
                    " holds something else than the pruned model of this recipe; expected nothing "
                    "there (remove it, or force drops it)");
  return std::nullopt;
}

/// Where a compression writes, links followed.
struct Places {
  std::filesystem::path out;
  std::filesystem::path pruned;      ///< the model that a pruning for bytes leaves, meanwhile
  std::filesystem::path statistics;  ///< kept, or beside `out` while it runs
  std::filesystem::path plan;        ///< of a compression for speed
};

/// Throws where something lies in the way.
Places places_of(const io::Checkpoint& model, const CompressRecipe& recipe, const CompressRun& run,
                 bool collects, bool prunes) {
  std::vector<InputPath> inputs = run.also_read;
  inputs.push_back({"the model", model.path()});
  for (const std::string& file : recipe.text.files) {
    if (file != "self") inputs.push_back({"calibration text", file});
  }
  Places places;
  const std::filesystem::path place = resolved_place(run.out);
  places.pruned = with_ending(place, ".pruned");
  places.statistics =
      run.statistics.value_or(with_ending(prunes ? places.pruned : place, ".statistics"));
  std::vector<std::filesystem::path> beside;
  if (collects) beside.push_back(places.statistics);
  places.plan = speed_plan_of(place);
  if (recipe.speedup) beside.push_back(places.plan);
  if (prunes) beside.push_back(places.pruned);
  places.out = output_folder(run.out, beside, inputs);
  if (collects && parallel::rank() == 0) calibrate::check_statistics_folder(places.statistics);
  return places;
}

/// What goes with a model that a pruning for bytes has left.
struct Left {
  torch::Tensor windows;  ///< calibration text, of the original where it writes its own
  double loss = 0.0;      ///< that the pruning is predicted to have cost
  std::optional<double> speedup = {};  ///< that is left to be bought

  Left(const torch::Tensor& text, const nlohmann::json& log)
      : windows(text), loss(log.at("predicted_loss").get<double>()) {
    if (log.contains("speedup_left")) speedup = log.at("speedup_left").get<double>();
  }
};

CompressOutcome compress_or_what_is_left(const io::Checkpoint& model, const CompressRecipe& recipe,
                                         const CompressRun& run, const std::optional<Left>& left,
                                         const Reporter& reporter);

std::string pruning_text(const Pruning& pruning, const CompressRecipe& recipe) {
  std::string text = fmt::format("{} MLPs lose neurons", pruning.layers.size());
  if (!recipe.pruning.empty()) return text;
  text += fmt::format(", which is predicted to cost {:.3g} nats a token and ", pruning.loss);
  return text + (recipe.speedup ? fmt::format("gives {:.2f} times the speed", pruning.speedup)
                                : "leaves the others more bits");
}

/// Compresses the pruned model, which goes when that is done.
CompressOutcome compress_what_is_left(CompressRecipe recipe, const CompressRun& run,
                                      const Left& left, const Places& places,
                                      const Reporter& reporter) {
  CompressRun rest = run;
  rest.statistics.reset();
  const io::Checkpoint pruned = io::Checkpoint::open(places.pruned);
  if (left.speedup) recipe.speedup = left.speedup;
  recipe.pruning.clear();
  if (recipe.plan) {
    recipe.plan->layers = planned_in({{"layers", plan::planned_json(recipe.plan->layers)}}, pruned);
  }
  CompressOutcome outcome = compress_or_what_is_left(pruned, recipe, rest, left, reporter);
  if (parallel::rank() != 0) return outcome;
  // A folder of that name is whole, whenever a run is killed.
  const std::filesystem::path going = partial_folder(places.pruned);
  remove_tree(going);
  move_path(places.pruned, going);
  remove_tree(going);
  if (!run.statistics) remove_tree(places.statistics);  // of a run that was killed
  return outcome;
}

/// What is recorded of a recipe that has become a plan.
nlohmann::json planned_by(const CompressRecipe& recipe, const plan::PlanFile& plan,
                          const compress::CompressOptions& options) {
  nlohmann::json made_by = to_json(recipe, plan);
  made_by["calibration"] = options.made_by["calibration"];
  return made_by;
}

/// compress_model(), for its second half with what pruning has left.
CompressOutcome compress_or_what_is_left(const io::Checkpoint& model, const CompressRecipe& recipe,
                                         const CompressRun& run, const std::optional<Left>& left,
                                         const Reporter& reporter) {
  model::require_model(model);
  const std::vector<plan::Layer> layers = layers_of(model, recipe);
  const int64_t parameters = package::summarize(model).parameters;
  const Needs needs = needs_of(methods_of(recipe));
  const bool calibrated = needs.inputs && recipe.keep != 1.0;

  // Mistakes that hours of calibration would otherwise hide, before anything is written.
  check_allocation(recipe);
  bool prunes = !left && (!recipe.pruning.empty() ||
                          (recipe.buys_forms() && recipe.mlp == MlpForm::kNeurons));
  if (recipe.mlp == MlpForm::kNeurons && !recipe.plan) {
    check_prunable(model::parse_config(model.config(), model.path()), layers);
  }
  std::optional<std::vector<plan::LayerPlan>> plan;
  std::optional<Market> market;
  if (recipe.buys_forms()) {
    compress::check_method(compress::find_method(recipe.method), parallel::size());
    if (recipe.bytes || prunes) market.emplace(compete(model, layers, budget_of(recipe)));
  } else if (calibrated && recipe.allocation == Allocation::kSensitivity) {
    check_keep(recipe, layers, parameters);
  } else {
    plan = plan_ahead(recipe, layers, parameters);
    compress::check_plan(*plan, recipe.fit, parallel::size());
    compress::check_pruned_mlps(model, *plan);
  }
  const bool measures = calibrated && (needs.gradient || recipe.buys_forms());
  const Places places = places_of(model, recipe, run, measures, prunes);
  std::optional<AtomicFolder> claimed;  // held for all ranks from here on
  if (parallel::rank() == 0) {
    claimed.emplace(places.out, run.force, package::checkpoint_folder());
  }
  torch::Tensor windows;
  nlohmann::json log;
  if (prunes) {
    windows = calibration_windows(model, recipe.text, run.sampling, reporter);
    log = pruning_log(model, recipe, windows);
    if (const auto found = pruned_already(places.pruned, log, run.force)) {
      return compress_what_is_left(recipe, run, {windows, *found}, places, reporter);
    }
    // Without a pruned model such a plan is of a run that found none to pay.
    if (recipe.speedup && !run.force && path_exists(places.plan)) prunes = false;
  }
  if (recipe.speedup && prunes) {
    market->times = check_speedup(model, recipe, market->forms);
  } else if (recipe.speedup) {
    check_speedup(model, recipe, places.plan, run.force, left.has_value());
  }

  compress::CompressOptions options;
  options.method = recipe.fit;
  options.dtype = recipe.dtype;
  options.force = run.force;
  options.workers = ranks_as_workers();
  options.made_by = to_json(recipe);

  std::optional<KeptStatistics> statistics;
  if (calibrated) {
    compress::Calibration calibration;
    if (left) windows = left->windows;
    calibration.windows = windows.defined()
                              ? windows
                              : calibration_windows(model, recipe.text, run.sampling, reporter);
    calibration.workers = options.workers;
    calibration.dtype = run.load.dtype;
    calibration.device = run.load.device;
    nlohmann::json& text = options.made_by["calibration"];
    text["tokens_asked"] = text["tokens"];
    text["tokens"] = calibration.windows.numel();
    if (measures && planned_by_them(recipe, run)) {
      statistics.emplace(model, *run.statistics);
      calibration.statistics = &statistics->statistics();
    } else if (measures) {
      calibrate::StatisticsOptions collecting;
      collecting.damping = recipe.fit.damping;
      collecting.seed = recipe.text.seed;
      collecting.outputs = needs.outputs;
      // What a run without pruning has left there is of another model.
      collecting.force = (run.force || left) && !run.statistics;
      collecting.workers = options.workers;
      std::vector<plan::Layer> measured = layers;
      std::erase_if(measured, [](const plan::Layer& layer) { return layer.block < 0; });
      statistics.emplace(model, measured, calibration.windows, run.load, places.statistics,
                         !run.statistics, collecting, reporter);
      calibration.statistics = &statistics->statistics();
    }
    options.calibration = std::move(calibration);
  }
  CompressOutcome outcome;
  if (prunes) {
    const Pruning pruning = of_first_rank(model, [&] {
      if (!recipe.pruning.empty()) return Pruning{{recipe.pruning}};
      return bought_pruning(model, recipe, layers, *market, statistics->statistics(), reporter);
    });
    if (!pruning.layers.empty()) reporter.tell(pruning_text(pruning, recipe));
    if (recipe.speedup && pruning.speedup >= *recipe.speedup) {
      plan = pruning.layers;
      options.made_by =
          planned_by(recipe, {.layers = *plan, .made_by = nlohmann::json::object()}, options);
      outcome.predicted_loss = pruning.loss;
    } else if (!pruning.layers.empty()) {
      log["layers"] = plan::planned_json(pruning.layers);
      log["predicted_loss"] = pruning.loss;
      if (recipe.speedup) log["speedup_left"] = *recipe.speedup / pruning.speedup;
      compress::CompressOptions of_pruning = options;
      of_pruning.dtype.reset();
      of_pruning.made_by = log;
      compress::compress(model, pruning.layers, places.pruned, of_pruning, reporter.progress);
      statistics->done();
      return compress_what_is_left(recipe, run, {windows, log}, places, reporter);
    }
  }
  if (plan) {
    // It is as it was asked for, or all that pruning is to do.
  } else if (recipe.bytes) {
    plan::BytePlan bought =
        buy(market->forms, budget_of(recipe), model, statistics->statistics(), recipe.fit);
    plan = std::move(bought.layers);
    outcome.predicted_loss = bought.loss + (left ? left->loss : 0.0);
  } else if (recipe.speedup) {
    const plan::PlanFile bought =
        plan_for_speed(model, recipe, places.statistics, places.plan, run.force);
    options.made_by = planned_by(recipe, bought, options);
    plan = bought.layers;
  } else {
    const auto buy_ranks = [&] {
      return Pruning{
          plan_by_spectra(model, recipe, layers, statistics->statistics(), parameters, reporter)};
    };
    plan::CurvePlan bought =
        recipe.mlp == MlpForm::kNeurons ? of_first_rank(model, buy_ranks) : buy_ranks();
    plan = std::move(bought.layers);
    outcome.predicted_loss = bought.loss;
  }
  outcome.result = compress::compress(model, *plan, places.out, options, reporter.progress);
  if (statistics) statistics->done();
  return outcome;
}

}  // namespace

CompressOutcome compress_model(const io::Checkpoint& model, const CompressRecipe& recipe,
                               const CompressRun& run, const Reporter& reporter) {
  return compress_or_what_is_left(model, recipe, run, std::nullopt, reporter);
}

}  // namespace schmidt::pipeline
