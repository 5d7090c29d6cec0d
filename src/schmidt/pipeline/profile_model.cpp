#include "schmidt/pipeline/profile_model.h"

#include <algorithm>

#include <c10/util/Exception.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/held_folder.h"
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/eval/multiple_choice.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/record_log.h"
#include "schmidt/model/model.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/pipeline/statistics.h"
#include "schmidt/plan/layers.h"
#include "schmidt/profile/metric.h"
#include "schmidt/report/sensitivity_figure.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

std::vector<plan::Layer> layers_of(const io::Checkpoint& model, const ProfileRecipe& recipe) {
  auto layers = plan::dense_layers(model);
  for (const int64_t block : recipe.blocks) {
    TORCH_CHECK_VALUE(
        std::ranges::any_of(layers, [&](const auto& layer) { return layer.block == block; }),
        "[blocks] expected blocks with dense layers, got ", block);
  }
  if (!recipe.blocks.empty()) {
    std::erase_if(layers, [&](const auto& layer) {
      return std::ranges::find(recipe.blocks, layer.block) == recipe.blocks.end();
    });
  }
  if (recipe.share_inputs) layers = plan::share_inputs(layers);
  return plan::select_layers(layers, {recipe.layers, {}});
}

/// What the same profile has in common on one rank and on many.
nlohmann::json made_by(const ProfileRecipe& recipe) {
  nlohmann::json made = {{"program", "schmidt " SCHMIDT_VERSION},
                         {"text", recipe.text.files},
                         {"tokens", recipe.text.tokens},
                         {"context", recipe.text.context},
                         {"seed", recipe.text.seed},
                         {"ridge", recipe.measure.factorize.ridge},
                         {"damping", recipe.measure.factorize.damping}};
  if (profile::find_metric(recipe.measure.metric).asks) {
    made["limit"] = recipe.questions.limit;
    made["fewshot"] = recipe.questions.fewshot.value_or(0);
  }
  return made;
}

/// The questions of the task that is the metric, if it is one.
std::optional<eval::MultipleChoice> questions_of(const io::Checkpoint& model,
                                                 const ProfileRecipe& recipe,
                                                 const Reporter& reporter) {
  const std::string& metric = recipe.measure.metric;
  if (!profile::find_metric(metric).asks) {
    TORCH_CHECK_VALUE(recipe.data.empty(), "[data] expected a metric that is a task, got ", metric);
    return std::nullopt;
  }
  TORCH_CHECK_VALUE(!recipe.data.empty(), "[data] expected the folder that holds ", metric);
  const eval::Task& task = eval::find_task(metric);
  const model::ModelConfig config = model::parse_config(model.config(), model.path());
  return eval::MultipleChoice(task, eval::all_questions(task.read(recipe.data, recipe.questions)),
                              load_tokenizer(model, reporter),
                              {.context = std::min<int64_t>(2048, config.max_positions)});
}

/// Where a profile writes, links followed.
struct Places {
  fs::path profile, svg, html;  ///< what stays
  fs::path partial;             ///< a folder of finished points
  fs::path statistics;          ///< a folder of them, where the method reads them
};

std::vector<InputPath> inputs_of(const io::Checkpoint& model, const ProfileRecipe& recipe) {
  std::vector<InputPath> inputs = {{"the model", model.path()}};
  for (const std::string& file : recipe.text.files) {
    if (file != "self") inputs.push_back({"text", file});
  }
  if (!recipe.data.empty()) inputs.push_back({"data", recipe.data});
  return inputs;
}

fs::path figure_of(fs::path profile, const char* extension) {
  return profile.replace_extension(extension);
}

/// Throws where something lies in the way.
Places places_of(const io::Checkpoint& model, const ProfileRecipe& recipe, const ProfileRun& run,
                 bool collects) {
  const std::vector<InputPath> inputs = inputs_of(model, recipe);
  Places places;
  places.profile = output_file(run.out, run.force, inputs);
  places.partial = with_ending(places.profile, ".partial");
  places.statistics = run.statistics.value_or(with_ending(places.profile, ".statistics"));
  // A killed run may have left figures, which are written first.
  const bool replaces = run.force || path_exists(places.partial);
  places.svg = output_file(figure_of(run.out, ".svg"), replaces, inputs);
  places.html = output_file(figure_of(run.out, ".html"), replaces, inputs);
  if (parallel::rank() != 0) return places;
  std::vector<fs::path> folders = {places.profile, places.partial};
  if (collects) folders.push_back(places.statistics);
  check_apart(folders, inputs);
  check_apart_from_each_other(folders);
  if (collects) calibrate::check_statistics_folder(places.statistics);
  return places;
}

}  // namespace

ProfileOutcome profile_model(const io::Checkpoint& model, const ProfileRecipe& recipe,
                             const ProfileRun& run, const Reporter& reporter) {
  TORCH_CHECK_VALUE(run.out.extension() == ".json", "[output] expected a .json file, got ",
                    run.out.string());
  const compress::Method& method = compress::find_method(recipe.measure.method);
  TORCH_CHECK_VALUE(!run.statistics || method.needs_gradient,
                    "[statistics] expected the method fisher or auto, which read them, got ",
                    std::string(method.name));
  const Places places = places_of(model, recipe, run, method.needs_gradient);
  const std::vector<plan::Layer> layers = layers_of(model, recipe);
  profile::ProfileOptions measure = recipe.measure;
  measure.force = run.force;
  measure.made_by = made_by(recipe);
  profile::check_points(layers, measure);
  const std::optional<eval::MultipleChoice> questions = questions_of(model, recipe, reporter);
  if (questions) measure.questions = &*questions;
  std::optional<HeldFolder> held;  // for all ranks, from here on
  if (parallel::rank() == 0) held.emplace(places.partial, io::RecordLog::is_own);

  torch::Tensor windows;
  if (!questions || method.needs_inputs) {
    windows = calibration_windows(model, recipe.text, run.load, reporter);
    measure.made_by["tokens"] = windows.numel();
  }
  std::optional<KeptStatistics> statistics;
  if (method.needs_gradient) {
    calibrate::StatisticsOptions collecting;
    collecting.damping = measure.factorize.damping;
    collecting.outputs = method.needs_outputs;
    collecting.seed = recipe.text.seed;
    collecting.force = run.force && !run.statistics;
    statistics.emplace(model, layers, windows, run.calibration, places.statistics, !run.statistics,
                       collecting, reporter);
    measure.statistics = &statistics->statistics();
  }
  const model::Model original = model::Model::load(model, run.load);
  ProfileOutcome outcome;
  outcome.profile = profile::measure_profile(model, original, layers, windows, measure,
                                             places.partial, reporter.progress);
  outcome.files = {run.out, figure_of(run.out, ".svg"), figure_of(run.out, ".html")};
  if (parallel::rank() != 0) return outcome;
  write_file_atomically(places.svg, report::sensitivity_svg(outcome.profile));
  write_file_atomically(places.html,
                        report::sensitivity_page(outcome.profile, io::model_name(model.path())));
  profile::write_profile(places.profile, outcome.profile);
  held->remove();
  if (statistics) statistics->done();
  return outcome;
}

}  // namespace schmidt::pipeline
