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
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/io/json_record.h"
#include "schmidt/model/config.h"
#include "schmidt/model/require_model.h"
#include "schmidt/package/checkpoint_folder.h"
#include "schmidt/package/summary.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/pipeline/plan_for_speed.h"
#include "schmidt/pipeline/pruned_model.h"
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

ByteBudget budget_of(const CompressRecipe& recipe) {
  return {*recipe.bytes, recipe.forms, recipe.method, recipe.dtype};
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

/// The pruning that is predicted to pay where bytes are spent on integers, where these fit, or on
/// the forms that the recipe names.
Pruning bought_pruning(const io::Checkpoint& model, const CompressRecipe& recipe,
                       const std::vector<plan::Layer>& layers, const Competition& competition,
                       const calibrate::Statistics& statistics, const Reporter& reporter) {
  ByteBudget budget = budget_of(recipe);
  Market predicted{competition};
  if (!budget.rules.kinds) {
    Competition integers = competition.narrowed({});
    if (static_cast<double>(integers.least_bytes()) <= budget.bytes) {
      predicted.forms = std::move(integers);
      budget.rules.kinds.emplace();
    }
  }
  predict_losses(predicted.forms, model, statistics, recipe.fit);
  const NeuronCurves curves = neuron_curves(model, layers, statistics, recipe.fit, reporter);
  const int64_t group = budget.rules.group > 0 ? budget.rules.group : kSmallestGroup;
  return choose_pruning(in_groups(curves, group), predicted, budget);
}

/// Planned layers as `log` and plan files hold them, for the model that they are to be found in.
std::vector<plan::LayerPlan> planned_in(const nlohmann::json& object, const io::Checkpoint& model) {
  return plan::read_planned(io::JsonRecord(object, "", model.path()), plan::outline(model));
}

/// What the first rank makes, for all: predictions differ in their last digits between machines.
plan::CurvePlan of_first_rank(const io::Checkpoint& model,
                              const std::function<plan::CurvePlan()>& make) {
  if (parallel::size() == 1) return make();
  nlohmann::json sent;
  if (parallel::rank() == 0) {
    const plan::CurvePlan made = make();
    sent = {{"layers", plan::planned_json(made.layers)}, {"loss", made.loss}};
  }
  const auto received = nlohmann::json::parse(parallel::broadcast(sent.dump()));
  return {planned_in(received, model), received.at("loss").get<double>()};
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

/// What goes with a model that a pruning has left.
struct Left {
  torch::Tensor windows;  ///< calibration text, of the original where it writes its own
  double loss = 0.0;      ///< that the pruning is predicted to have cost
};

std::string pruning_text(const Pruning& pruning, const CompressRecipe& recipe) {
  const std::string text = fmt::format("{} MLPs lose neurons", pruning.layers.size());
  if (!recipe.pruning.empty()) return text;
  return text + fmt::format(
                    ", which is predicted to cost {:.3g} nats a token and leaves the others "
                    "more bits",
                    pruning.loss);
}

/// compress_model() of a model, or of what a pruning has left of it.
class Compression {
 public:
  Compression(const io::Checkpoint& model, const CompressRecipe& recipe, const CompressRun& run,
              const std::optional<Left>& left, const Reporter& reporter)
      : model_(model),
        recipe_(recipe),
        run_(run),
        left_(left),
        reporter_(reporter),
        needs_(needs_of(methods_of(recipe))),
        calibrated_(needs_.inputs && recipe.keep != 1.0),
        measures_(calibrated_ && (needs_.gradient || recipe.buys_forms())),
        may_prune_(!left && (!recipe.pruning.empty() ||
                             (recipe.buys_forms() && recipe.mlp == MlpForm::kNeurons))) {}

  CompressOutcome go() {
    model::require_model(model_);
    layers_ = layers_of(model_, recipe_);
    parameters_ = package::summarize(model_).parameters;
    check();
    places_ = places_of(model_, recipe_, run_, measures_, may_prune_);
    std::optional<AtomicFolder> claimed;  // held for all ranks from here on
    if (parallel::rank() == 0) {
      claimed.emplace(places_.out, run_.force, package::checkpoint_folder());
    }
    if (recipe_.speedup) check_speedup(model_, recipe_, places_.plan, run_.force);
    if (may_prune_ && find_pruned()) return compress_what_is_left();
    calibrate();
    if (recipe_.speedup) {
      follow(
          plan_for_speed(model_, recipe_, places_.statistics, places_.plan, run_.force, reporter_));
    }
    if (may_prune_ && prune()) return compress_what_is_left();
    if (!plan_) plan_ = bought();
    outcome_.result = compress::compress(model_, *plan_, places_.out, options_, reporter_.progress);
    if (statistics_) statistics_->done();
    return outcome_;
  }

 private:
  /// Mistakes that hours of calibration would otherwise hide, before anything is written.
  void check() {
    check_allocation(recipe_);
    if (recipe_.mlp == MlpForm::kNeurons && !recipe_.plan) {
      check_prunable(model::parse_config(model_.config(), model_.path()), layers_);
    }
    if (recipe_.buys_forms()) {
      compress::check_method(compress::find_method(recipe_.method), parallel::size());
      if (recipe_.bytes) competition_ = compete(model_, layers_, budget_of(recipe_));
    } else if (calibrated_ && recipe_.allocation == Allocation::kSensitivity) {
      check_keep(recipe_, layers_, parameters_);
    } else {
      plan_ = plan_ahead(recipe_, layers_, parameters_);
      compress::check_plan(left_by({recipe_.pruning}, *plan_), recipe_.fit, parallel::size());
      compress::check_plan(recipe_.pruning, recipe_.fit, parallel::size());
      compress::check_pruned_mlps(model_, *plan_);
      compress::check_pruned_mlps(model_, recipe_.pruning);
    }
  }

  /// Whether an earlier run has left a pruned model to go on from.
  bool find_pruned() {
    if (recipe_.speedup) {
      const auto plan = planned_for_speed(model_, recipe_, places_.plan, run_.force);
      if (!plan || plan->pruning.empty() || !path_exists(places_.pruned)) return false;
      follow(*plan);
    }
    read_text();
    pruning_log_ = pruning_log(model_, recipe_, windows_);
    const auto found = pruned_already(places_.pruned, pruning_log_, run_.force);
    if (found) pruning_log_ = *found;
    return found.has_value();
  }

  /// The recipe with a plan in place of its budget.
  void follow(const plan::PlanFile& plan) {
    recipe_.speedup.reset();
    recipe_.method.clear();
    recipe_.plan = plan;
    recipe_.pruning = plan.pruning;
    may_prune_ = !plan.pruning.empty();
    plan_ = plan.layers;
    nlohmann::json made_by = to_json(recipe_);
    if (options_.made_by.contains("calibration")) {
      made_by["calibration"] = options_.made_by["calibration"];
    }
    options_.made_by = std::move(made_by);
    if (may_prune_ && windows_.defined()) pruning_log_ = pruning_log(model_, recipe_, windows_);
  }

  void read_text() {
    windows_ = left_ ? left_->windows
                     : calibration_windows(model_, recipe_.text, run_.sampling, reporter_);
  }

  /// What `compress` is to know, of calibration too.
  void calibrate() {
    options_.method = recipe_.fit;
    options_.dtype = recipe_.dtype;
    options_.force = run_.force;
    options_.workers = ranks_as_workers();
    options_.made_by = to_json(recipe_);
    if (!calibrated_) return;
    if (!windows_.defined()) read_text();
    compress::Calibration calibration;
    calibration.windows = windows_;
    calibration.workers = options_.workers;
    calibration.dtype = run_.load.dtype;
    calibration.device = run_.load.device;
    nlohmann::json& text = options_.made_by["calibration"];
    text["tokens_asked"] = text["tokens"];
    text["tokens"] = windows_.numel();
    if (measures_) {
      measure();
      calibration.statistics = &statistics_->statistics();
    }
    options_.calibration = std::move(calibration);
  }

  void measure() {
    if (planned_by_them(recipe_, run_)) {
      statistics_.emplace(model_, *run_.statistics);
      return;
    }
    calibrate::StatisticsOptions collecting;
    collecting.damping = recipe_.fit.damping;
    collecting.seed = recipe_.text.seed;
    collecting.outputs = needs_.outputs;
    // What a run without pruning has left there is of another model.
    collecting.force = (run_.force || left_) && !run_.statistics;
    collecting.workers = options_.workers;
    std::vector<plan::Layer> measured = layers_;
    std::erase_if(measured, [](const plan::Layer& layer) { return layer.block < 0; });
    statistics_.emplace(model_, measured, windows_, run_.load, places_.statistics, !run_.statistics,
                        collecting, reporter_);
  }

  /// Writes the pruned model, where one pays.
  bool prune() {
    const Pruning pruning = of_first_rank(model_, [&] {
      if (!recipe_.pruning.empty()) return Pruning{recipe_.pruning};
      return bought_pruning(model_, recipe_, layers_, *competition_, statistics_->statistics(),
                            reporter_);
    });
    if (pruning.layers.empty()) return false;
    reporter_.tell(pruning_text(pruning, recipe_));
    pruning_log_["layers"] = plan::planned_json(pruning.layers);
    pruning_log_["predicted_loss"] = pruning.loss;
    compress::CompressOptions options = options_;
    options.dtype.reset();
    options.made_by = pruning_log_;
    compress::compress(model_, pruning.layers, places_.pruned, options, reporter_.progress);
    statistics_->done();
    return true;
  }

  /// Compresses the pruned model, which goes when that is done.
  CompressOutcome compress_what_is_left() const {
    const Left left{windows_, pruning_log_.at("predicted_loss").get<double>()};
    const io::Checkpoint pruned = io::Checkpoint::open(places_.pruned);
    CompressRecipe recipe = recipe_;
    recipe.pruning.clear();
    if (recipe.plan) {
      recipe.plan->layers =
          planned_in({{"layers", plan::planned_json(recipe.plan->layers)}}, pruned);
    }
    CompressRun run = run_;
    run.statistics.reset();
    CompressOutcome outcome = Compression(pruned, recipe, run, left, reporter_).go();
    if (parallel::rank() != 0) return outcome;
    drop_pruned(places_.pruned);
    if (!run_.statistics) remove_tree(places_.statistics);  // of a run that was killed
    return outcome;
  }

  /// The plan that the recipe's budget buys.
  std::vector<plan::LayerPlan> bought() {
    if (recipe_.bytes) {
      const plan::BytePlan plan =
          buy(*competition_, budget_of(recipe_), model_, statistics_->statistics(), recipe_.fit);
      outcome_.predicted_loss = plan.loss + (left_ ? left_->loss : 0.0);
      return plan.layers;
    }
    const auto by_spectra = [&] {
      return plan_by_spectra(model_, recipe_, layers_, statistics_->statistics(), parameters_,
                             reporter_);
    };
    const plan::CurvePlan plan =
        recipe_.mlp == MlpForm::kNeurons ? of_first_rank(model_, by_spectra) : by_spectra();
    outcome_.predicted_loss = plan.loss;
    return plan.layers;
  }

  const io::Checkpoint& model_;
  CompressRecipe recipe_;  // once time has become a plan, that of the plan
  const CompressRun& run_;
  const std::optional<Left> left_;
  const Reporter& reporter_;
  const Needs needs_;
  const bool calibrated_, measures_;
  bool may_prune_;

  std::vector<plan::Layer> layers_;
  int64_t parameters_ = 0;
  Places places_;
  std::optional<std::vector<plan::LayerPlan>> plan_;
  std::optional<Competition> competition_;  // where bytes are spent
  torch::Tensor windows_;                   // the text, once it is read
  nlohmann::json pruning_log_;
  compress::CompressOptions options_;
  std::optional<KeptStatistics> statistics_;
  CompressOutcome outcome_;
};

}  // namespace

CompressOutcome compress_model(const io::Checkpoint& model, const CompressRecipe& recipe,
                               const CompressRun& run, const Reporter& reporter) {
  return Compression(model, recipe, run, std::nullopt, reporter).go();
}

}  // namespace schmidt::pipeline
