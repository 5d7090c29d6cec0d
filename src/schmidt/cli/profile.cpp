#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/outputs.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/eval/multiple_choice.h"
#include "schmidt/io/json.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/calibration_text.h"
#include "schmidt/pipeline/statistics.h"
#include "schmidt/profile/point_log.h"
#include "schmidt/profile/sensitivity.h"
#include "schmidt/report/sensitivity_figure.h"

namespace schmidt::cli {
namespace {

namespace fs = std::filesystem;

struct ProfileVerbOptions {
  CommonOptions common;
  std::string model, out;
  bool force = false;
  pipeline::CalibrationText text{.tokens = 2048};
  std::string data;
  eval::TaskOptions questions;
  std::vector<double> keep;
  std::vector<int64_t> bonds, blocks;
  std::vector<std::string> layers;
  std::string metric = "kl", method = "whitened", shape = "auto", gauge = "fixed";
  bool share_inputs = false;
  compress::MethodOptions factorize;
  std::string statistics;       // a folder to keep them in
  std::set<std::string> given;  // options on the command line
};

profile::ProfileOptions measuring(const ProfileVerbOptions& options) {
  profile::ProfileOptions p;
  if (!options.bonds.empty()) {
    p.setting = profile::Setting::kBonds;
    p.settings.assign(options.bonds.begin(), options.bonds.end());
  } else if (!options.keep.empty()) {
    p.settings = options.keep;
  }
  std::sort(p.settings.begin(), p.settings.end());
  p.settings.erase(std::unique(p.settings.begin(), p.settings.end()), p.settings.end());
  p.shape.sites = options.factorize.sites;
  p.shape.low_rank = options.shape == "auto" ? !compress::find_method(options.method).any_shape
                                             : options.shape == "low-rank";
  p.shape.fixed_gauge = options.gauge == "fixed";
  p.method = options.method;
  p.factorize = options.factorize;
  p.metric = options.metric;
  p.force = options.force;
  // What the same profile has in common on one rank and on many.
  p.made_by = {{"program", "schmidt " SCHMIDT_VERSION}, {"text", options.text.files},
               {"tokens", options.text.tokens},         {"context", options.text.context},
               {"seed", options.common.seed},           {"ridge", options.factorize.ridge},
               {"damping", options.factorize.damping}};
  if (profile::find_metric(options.metric).asks) {
    p.made_by["limit"] = options.questions.limit;
    p.made_by["fewshot"] = options.questions.fewshot;
  }
  return p;
}

std::vector<plan::Layer> chosen_layers(const io::Checkpoint& checkpoint,
                                       const ProfileVerbOptions& options) {
  auto layers = plan::dense_layers(checkpoint);
  for (const int64_t block : options.blocks) {
    TORCH_CHECK_VALUE(
        std::ranges::any_of(layers, [&](const auto& layer) { return layer.block == block; }),
        "[blocks] expected blocks with dense layers, got ", block);
  }
  if (!options.blocks.empty()) {
    std::erase_if(layers, [&](const auto& layer) {
      return std::ranges::find(options.blocks, layer.block) == options.blocks.end();
    });
  }
  if (options.share_inputs) layers = plan::share_inputs(layers);
  return plan::select_layers(layers, {options.layers, {}});
}

/// The questions of the task that is the metric, if it is one.
std::optional<eval::MultipleChoice> questions_of(const io::Checkpoint& checkpoint,
                                                 const ProfileVerbOptions& options) {
  if (!profile::find_metric(options.metric).asks) {
    TORCH_CHECK_VALUE(options.data.empty(), "[data] expected a metric that is a task, got ",
                      options.metric);
    return std::nullopt;
  }
  TORCH_CHECK_VALUE(!options.data.empty(), "[data] expected the folder that holds ", options.metric,
                    " (--data)");
  const eval::Task& task = eval::find_task(options.metric);
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  return eval::MultipleChoice(task, task.read(options.data, options.questions),
                              load_tokenizer(checkpoint.path(), options.common),
                              {.context = std::min<int64_t>(2048, config.max_positions)});
}

void print(const ProfileVerbOptions& options, const profile::Profile& profile,
           const std::vector<fs::path>& files) {
  if (options.common.json) {
    nlohmann::ordered_json out = {{"metric", profile.metric},
                                  {"dense", profile.dense},
                                  {"layers", profile.layers.size()},
                                  {"points", profile.layers.size() * profile.settings.size()}};
    for (const fs::path& file : files) out["files"].push_back(file.string());
    fmt::print("{}\n", io::json_text(out));
    return;
  }
  const bool bonds = profile.setting == profile::Setting::kBonds;
  Table table;
  table.header = {"layer"};
  for (const double s : profile.settings) {
    table.header.push_back(bonds ? fmt::format("bond {:g}", s) : fmt::format("{:g} %", 100 * s));
  }
  for (const profile::LayerProfile& layer : profile.layers) {
    table.rows.push_back({layer.network.layer.name});
    for (const profile::Point& point : layer.points) {
      table.rows.back().push_back(fmt::format("{:.4g}", point.value));
    }
  }
  fmt::print("{} of the original: {:.6g}\n{}written to", profile.metric, profile.dense,
             table.aligned());
  for (const fs::path& file : files) fmt::print(" {}", file.string());
  fmt::print("\n");
}

/// Where a profile writes.
struct Places {
  fs::path profile, svg, html;  ///< what stays
  fs::path partial;             ///< a folder of finished points
  fs::path statistics;          ///< a folder of them, where the method reads them
};

std::vector<InputPath> inputs_of(const ProfileVerbOptions& options) {
  std::vector<InputPath> inputs = {{"the model", options.model}};
  for (const std::string& file : options.text.files) {
    if (file != "self") inputs.push_back({"text", file});
  }
  if (!options.data.empty()) inputs.push_back({"data", options.data});
  return inputs;
}

/// Throws where something lies in the way.
Places places_of(const ProfileVerbOptions& options, const compress::Method& method) {
  const std::vector<InputPath> inputs = inputs_of(options);
  Places places;
  places.profile = output_file(options.out, options.force, inputs);
  places.partial = with_ending(places.profile, ".partial");
  places.statistics = options.statistics.empty() ? with_ending(places.profile, ".statistics")
                                                 : fs::path(options.statistics);
  // A killed run may have left figures, which are written first.
  const bool goes_on = path_exists(places.partial);
  const auto figure = [&](const char* extension) {
    fs::path file = options.out;
    return output_file(file.replace_extension(extension), options.force || goes_on, inputs);
  };
  places.svg = figure(".svg");
  places.html = figure(".html");
  if (parallel::rank() != 0) return places;
  std::vector<fs::path> folders = {places.profile, places.partial};
  if (method.needs_gradient) folders.push_back(places.statistics);
  check_apart(folders, inputs);
  check_apart_from_each_other(folders);
  if (method.needs_gradient) calibrate::check_statistics_folder(places.statistics);
  return places;
}

void check_options(const ProfileVerbOptions& options, const compress::Method& method) {
  const bool asks = profile::find_metric(options.metric).asks;
  const bool has_sites = method.any_shape && (options.shape != "low-rank" || !method.one_network);
  check_options_are_read(
      "profile", options.given,
      {{{"--limit", "--fewshot"}, asks, "a --metric that is a benchmark"},
       {{"--text", "--max-tokens", "--context", "--skip-bad"},
        !asks || method.needs_inputs,
        "a --metric of text or a --method that reads a layer's inputs"},
       {{"--ridge"}, method.needs_inputs, "a --method that reads a layer's inputs"},
       {{"--damping"}, method.needs_gradient, "--method fisher and auto"},
       {{"--sites"}, has_sites, "a --method and --shape of several sites"}});
}

void run(const ProfileVerbOptions& options) {
  apply_common_options(options.common);
  TORCH_CHECK_VALUE(fs::path(options.out).extension() == ".json",
                    "[output] expected a .json file, got ", options.out);
  const compress::Method& method = compress::find_method(options.method);
  check_options(options, method);
  const Places places = places_of(options, method);
  const io::Checkpoint checkpoint = open_checkpoint(options.model, options.common);
  const auto layers = chosen_layers(checkpoint, options);
  profile::ProfileOptions measure = measuring(options);
  profile::check_points(layers, measure);

  TORCH_CHECK_VALUE(options.statistics.empty() || method.needs_gradient,
                    "[statistics] expected --method fisher or auto, which read them, got ",
                    options.method);
  const std::optional<eval::MultipleChoice> questions = questions_of(checkpoint, options);
  if (questions) measure.questions = &*questions;
  std::optional<HeldFolder> held;  // for all ranks, from here on
  if (parallel::rank() == 0) held.emplace(places.partial, profile::PointLog::is_own);

  ProgressLine progress(options.common.quiet || parallel::rank() != 0);
  torch::Tensor windows;
  if (!questions || method.needs_inputs) {
    pipeline::CalibrationText text = options.text;
    text.seed = options.common.seed;
    windows = pipeline::calibration_windows(
        checkpoint, text,
        {options.common.torch_dtype(torch::kFloat32), options.common.torch_device()},
        progress.reporter());
    measure.made_by["tokens"] = windows.numel();
  }
  std::optional<pipeline::KeptStatistics> statistics;
  if (method.needs_gradient) {
    calibrate::StatisticsOptions collecting;
    collecting.damping = options.factorize.damping;
    collecting.outputs = method.needs_outputs;
    collecting.seed = options.common.seed;
    collecting.force = options.force && options.statistics.empty();
    statistics.emplace(
        checkpoint, layers, windows,
        model::LoadOptions{options.common.calibration_dtype(), options.common.torch_device()},
        places.statistics, options.statistics.empty(), collecting, progress.reporter());
    measure.statistics = &statistics->statistics();
  }
  const model::Model model = load_model(checkpoint, options.common);
  const profile::Profile profile = profile::measure_profile(
      checkpoint, model, layers, windows, measure, places.partial, progress.callback());
  progress.clear();
  if (parallel::rank() == 0) {
    const std::string name = fs::path(options.model).filename().string();
    write_file_atomically(places.svg, report::sensitivity_svg(profile));
    write_file_atomically(places.html, report::sensitivity_page(profile, name));
    profile::write_profile(places.profile, profile);
    held->remove();
    if (statistics) statistics->done();
    fs::path svg = options.out, html = options.out;
    svg.replace_extension(".svg");
    html.replace_extension(".html");
    print(options, profile, {options.out, svg, html});
  }
}

}  // namespace

Run add_profile(CLI::App& verb) {
  auto options = std::make_shared<ProfileVerbOptions>();
  verb.add_option("MODEL", options->model, "Hugging Face folder or .gguf file")->required();
  verb.add_option("-o,--out", options->out,
                  "The profile: a .json file; the figure goes beside it as .svg and .html")
      ->required();
  verb.add_flag("--force", options->force, "Replace the file, and drop unfinished work there");
  verb.add_option("--text", options->text.files,
                  "Text and .jsonl files in equal parts; \"self\": sampled from the model")
      ->delimiter(',')
      ->capture_default_str();
  verb.add_option("--max-tokens", options->text.tokens, "Tokens of the text to use")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--context", options->text.context, "Tokens in a window of the text")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_flag("--skip-bad", options->text.skip_bad, "Leave out broken lines of .jsonl files");
  CLI::Option* bonds = verb.add_option("--bonds", options->bonds,
                                       "Bond dimensions to try, as in the paper: 10,20,..")
                           ->delimiter(',')
                           ->check(kPositive);
  verb.add_option(
          "--keep", options->keep,
          "Instead of --bonds: shares of a layer's parameters to try (0.1,0.2,0.35,0.5,0.75)")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(bonds);
  std::vector<std::string> metrics, methods;
  for (const profile::Metric& metric : profile::metrics()) metrics.emplace_back(metric.name);
  for (const compress::Method* method : compress::methods()) methods.emplace_back(method->name);
  verb.add_option("--metric", options->metric, "Measure of the model's loss")
      ->check(CLI::IsMember(metrics))
      ->capture_default_str();
  verb.add_option(
      "--data", options->data,
      "Folder of the benchmarks, if the metric is one of them: DATA/mmlu, DATA/hellaswag, ..");
  verb.add_option("--limit", options->questions.limit,
                  "Questions of each file of the benchmark, of each subject of mmlu (0: all)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--fewshot", options->questions.fewshot,
                  "Worked examples before each question; mmlu has up to 5")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--blocks", options->blocks, "Blocks to profile: 0,5,15,.. (default: all)")
      ->delimiter(',');
  verb.add_option("--layers", options->layers,
                  "Layers to profile: names, ends of names, L1..L7, patterns, re:EXPRESSION")
      ->delimiter(',');
  verb.add_option("--method", options->method, "How cores are found")
      ->check(CLI::IsMember(methods))
      ->capture_default_str();
  verb.add_option("--sites", options->factorize.sites, "Sites of each MPO")->capture_default_str();
  verb.add_option("--shape", options->shape,
                  "How indices are split: balanced where the method can, or low-rank, (m,1)x(1,n)")
      ->check(CLI::IsMember({"auto", "balanced", "low-rank"}))
      ->capture_default_str();
  verb.add_option("--gauge", options->gauge,
                  "Count the parameters of the fixed gauge or of the full gauge")
      ->check(CLI::IsMember({"fixed", "full"}))
      ->capture_default_str();
  verb.add_flag("--share-inputs", options->share_inputs,
                "Use one basis for layers that read the same input: q, k, v; gate, up");
  verb.add_option("--ridge", options->factorize.ridge,
                  "Added to the inputs' moments, relative to their mean")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--damping", options->factorize.damping,
                  "fisher: added to the gradient's moments, relative to their mean")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option(
      "--statistics", options->statistics,
      "fisher, auto: folder in which the statistics of calibration are kept for another "
      "run");
  add_common_options(verb, options->common);
  return [options, &verb] {
    options->given = given_options(verb);
    run(*options);
  };
}

}  // namespace schmidt::cli
