#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "schmidt/base/kept_memory.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/profile_model.h"
#include "schmidt/profile/metric.h"

namespace schmidt::cli {
namespace {

struct ProfileVerbOptions {
  CommonOptions common;
  std::string model, out, statistics;
  bool force = false;
  pipeline::ProfileRecipe recipe;
  std::vector<double> keep;
  std::vector<int64_t> bonds;
  std::string shape = "auto", gauge = "fixed";
  std::set<std::string> given;  // options on the command line
};

pipeline::ProfileRecipe recipe_of(const ProfileVerbOptions& options) {
  pipeline::ProfileRecipe recipe = options.recipe;
  profile::ProfileOptions& p = recipe.measure;
  if (!options.bonds.empty()) {
    p.setting = profile::Setting::kBonds;
    p.settings.assign(options.bonds.begin(), options.bonds.end());
  } else if (!options.keep.empty()) {
    p.settings = options.keep;
  }
  std::sort(p.settings.begin(), p.settings.end());
  p.settings.erase(std::unique(p.settings.begin(), p.settings.end()), p.settings.end());
  p.shape.sites = p.factorize.sites;
  p.shape.low_rank = options.shape == "auto" ? !compress::find_method(p.method).any_shape
                                             : options.shape == "low-rank";
  p.shape.fixed_gauge = options.gauge == "fixed";
  recipe.text.seed = options.common.seed;
  return recipe;
}

void print(const ProfileVerbOptions& options, const pipeline::ProfileOutcome& outcome) {
  const profile::Profile& profile = outcome.profile;
  if (options.common.json) {
    nlohmann::ordered_json out = {{"metric", profile.metric},
                                  {"dense", profile.dense},
                                  {"layers", profile.layers.size()},
                                  {"points", profile.layers.size() * profile.settings.size()}};
    for (const std::filesystem::path& file : outcome.files) out["files"].push_back(file.string());
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
  for (const std::filesystem::path& file : outcome.files) fmt::print(" {}", file.string());
  fmt::print("\n");
}

void check_options(const ProfileVerbOptions& options, const compress::Method& method) {
  const bool asks = profile::find_metric(options.recipe.measure.metric).asks;
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
  keep_freed_memory();  // every block asks for the same large ones
  const pipeline::ProfileRecipe recipe = recipe_of(options);
  const io::Checkpoint model = open_checkpoint(options.model, options.common);
  pipeline::ProfileRun run{.out = options.out, .force = options.force};
  if (!options.statistics.empty()) run.statistics = options.statistics;
  run.load = {options.common.torch_dtype(torch::kFloat32), options.common.torch_device()};
  run.calibration = {options.common.calibration_dtype(), options.common.torch_device()};

  ProgressLine progress(options.common.quiet || parallel::rank() != 0);
  const auto outcome = pipeline::profile_model(model, recipe, run, progress.reporter());
  progress.clear();
  if (parallel::rank() == 0) print(options, outcome);
}

}  // namespace

Action add_profile(CLI::App& verb) {
  auto options = std::make_shared<ProfileVerbOptions>();
  options->recipe.measure.method = "whitened";
  add_model_argument(verb, options->model);
  verb.add_option("-o,--out", options->out,
                  "The profile: a .json file; the figure goes beside it as .svg and .html")
      ->type_name(kFileValue)
      ->required();
  verb.add_flag("--force", options->force, "Replace the file, and drop unfinished work there");
  verb.add_option("--text", options->recipe.text.files,
                  "Text and .jsonl files in equal parts; \"self\": sampled from the model")
      ->type_name(kFileValue)
      ->delimiter(',')
      ->capture_default_str();
  verb.add_option("--max-tokens", options->recipe.text.tokens, "Tokens of the text to use")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--context", options->recipe.text.context, "Tokens in a window of the text")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_flag("--skip-bad", options->recipe.text.skip_bad,
                "Leave out broken lines of .jsonl files");
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
  std::vector<std::string> metrics;
  for (const profile::Metric* metric : profile::metrics()) metrics.emplace_back(metric->name);
  verb.add_option("--metric", options->recipe.measure.metric, "Measure of the model's loss")
      ->check(CLI::IsMember(metrics))
      ->capture_default_str();
  verb.add_option(
          "--data", options->recipe.data,
          "Folder of the benchmarks, if the metric is one of them: DATA/mmlu, DATA/hellaswag, ..")
      ->type_name(kFolderValue);
  verb.add_option("--limit", options->recipe.questions.limit,
                  "Questions of each file of the benchmark, of each subject of mmlu (0: all)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--fewshot", options->recipe.questions.fewshot,
                  "Worked examples before each question (default: 0); mmlu has up to 5")
      ->check(kNonNegative);
  verb.add_option("--blocks", options->recipe.blocks, "Blocks to profile: 0,5,15,.. (default: all)")
      ->delimiter(',');
  verb.add_option("--layers", options->recipe.layers,
                  "Layers to profile: names, ends of names, L1..L7, patterns, re:EXPRESSION")
      ->delimiter(',');
  verb.add_option("--method", options->recipe.measure.method, "How cores are found")
      ->check(CLI::IsMember(method_names(false)))
      ->capture_default_str();
  verb.add_option("--sites", options->recipe.measure.factorize.sites, "Sites of each MPO")
      ->capture_default_str();
  verb.add_option("--shape", options->shape,
                  "How indices are split: balanced where the method can, or low-rank, (m,1)x(1,n)")
      ->check(CLI::IsMember({"auto", "balanced", "low-rank"}))
      ->capture_default_str();
  verb.add_option("--gauge", options->gauge,
                  "Count the parameters of the fixed gauge or of the full gauge")
      ->check(CLI::IsMember({"fixed", "full"}))
      ->capture_default_str();
  verb.add_flag("--share-inputs", options->recipe.share_inputs,
                "Use one basis for layers that read the same input: q, k, v; gate, up");
  verb.add_option("--ridge", options->recipe.measure.factorize.ridge,
                  "Added to the inputs' moments, relative to their mean")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--damping", options->recipe.measure.factorize.damping,
                  "fisher: added to the gradient's moments, relative to their mean")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option(
          "--statistics", options->statistics,
          "fisher, auto: folder in which the statistics of calibration are kept for another "
          "run")
      ->type_name(kFolderValue);
  add_common_options(verb, options->common);
  return {[options, &verb] {
            options->given = given_options(verb);
            check_options(*options, compress::find_method(options->recipe.measure.method));
          },
          [options] { run(*options); }};
}

}  // namespace schmidt::cli
