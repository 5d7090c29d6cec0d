#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/kept_memory.h"
#include "schmidt/cli/calibration_options.h"
#include "schmidt/cli/compression.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/json.h"
#include "schmidt/model/network.h"
#include "schmidt/package/forms_text.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/plan/forms.h"

namespace schmidt::cli {
namespace {

struct CompressVerbOptions {
  CommonOptions common;
  std::string model;
  std::string out;
  bool force = false;
  std::optional<double> keep;
  std::string size;  // bytes of the weights' file, in words
  std::optional<double> bits_per_weight;
  std::optional<double> speedup;
  std::string speed_of = "decode";
  pipeline::Workload workload;
  int64_t group = 0;
  std::string scheme = "asymmetric";
  std::vector<std::string> forms = pipeline::names_of(std::nullopt);
  std::optional<int64_t> bond;
  std::string plan;   // a file to take it from
  std::string shape;  // empty: balanced where the method can
  std::vector<int64_t> out_dims, in_dims;
  std::string method;      // empty: the default
  std::string allocation;  // empty: by sensitivity where the method knows it
  std::string mlp = "low-rank";
  std::string gauge = "fixed";
  bool share_inputs = false;
  std::string statistics;  // a folder to keep them in
  std::string recipe;      // a checkpoint whose compression is done again
  compress::MethodOptions factorize;
  pipeline::CalibrationText calibration;
  std::vector<std::string> layers;
  std::vector<std::string> ignore;
  std::set<std::string> given;  // options on the command line
};

/// An option that some methods read.
struct MethodOption {
  const char* name;
  bool (*read_by)(const compress::Method& method);
};

bool has_sites(const compress::Method& m) { return m.any_shape && !m.integers && !m.prunes; }
bool reads_inputs(const compress::Method& m) { return m.needs_inputs; }
bool reads_gradients(const compress::Method& m) { return m.needs_gradient; }

constexpr MethodOption kMethodOptions[] = {
    {"--sites", has_sites},
    {"--out-dims", has_sites},
    {"--in-dims", has_sites},
    {"--calibration", reads_inputs},
    {"--calibration-tokens", reads_inputs},
    {"--calibration-context", reads_inputs},
    {"--skip-bad", reads_inputs},
    {"--drift", reads_inputs},
    {"--ridge", reads_inputs},
    {"--damping", reads_gradients},
    {"--statistics", reads_gradients},
    {"--sweeps",
     [](const compress::Method& m) { return m.reads(compress::MethodSetting::kSweeps); }},
    {"--rounds",
     [](const compress::Method& m) { return m.reads(compress::MethodSetting::kRounds); }},
    {"--steps", [](const compress::Method& m) { return m.reads(compress::MethodSetting::kSteps); }},
    {"--tolerance",
     [](const compress::Method& m) { return m.reads(compress::MethodSetting::kTolerance); }},
};

/// Whether forms of the layers are bought, by bytes or by time.
bool buys_forms(const CompressVerbOptions& options) {
  return !options.size.empty() || options.bits_per_weight || options.speedup;
}

/// Without --method a bond by hand asks for the paper's plain truncation, a share to keep
/// for what loses the least on every model seen so far.
const compress::Method& chosen_method(const CompressVerbOptions& options) {
  if (!options.method.empty()) return compress::find_method(options.method);
  if (buys_forms(options)) return compress::find_method("learned");
  return compress::find_method(options.bond ? "tt-svd" : "fisher");
}

bool by_sensitivity(const CompressVerbOptions& options) {
  return chosen_method(options).needs_gradient && options.keep && options.allocation != "uniform";
}

plan::ShapeChoice shape_choice(const CompressVerbOptions& options) {
  plan::ShapeChoice choice;
  const compress::Method& method = chosen_method(options);
  TORCH_CHECK_VALUE(method.any_shape || options.shape != "balanced", "[shape] method ",
                    std::string(method.name), " has the shape (m, 1) x (1, n) alone; expected ",
                    "--shape low-rank");
  choice.sites = options.factorize.sites;
  choice.low_rank = options.shape.empty() ? !method.any_shape : options.shape == "low-rank";
  choice.fixed_gauge = options.gauge == "fixed";
  TORCH_CHECK_VALUE(options.out_dims.empty() == options.in_dims.empty(),
                    "[sites] expected --out-dims and --in-dims together, got one of them");
  TORCH_CHECK_VALUE(!options.given.contains("--sites") ||
                        (options.out_dims.empty() && options.shape != "low-rank"),
                    "[sites] --sites is read without --out-dims and with --shape balanced alone");
  if (!options.out_dims.empty()) choice.by_hand = tn::SiteShape{options.out_dims, options.in_dims};
  return choice;
}

std::string candidates_text(const std::vector<compress::Candidate>& candidates) {
  std::string text;
  for (const compress::Candidate& c : candidates) {
    text += fmt::format("{}{} {}{:.4f}", text.empty() ? "" : ", ", c.method, c.finished ? "" : ">",
                        c.error);
  }
  return text;
}

nlohmann::ordered_json as_json(const CompressVerbOptions& options,
                               const pipeline::CompressOutcome& outcome) {
  const compress::CompressResult& result = outcome.result;
  nlohmann::ordered_json out = sizes_json(result.summary);
  if (outcome.predicted_loss) out["predicted_loss"] = *outcome.predicted_loss;
  out["out"] = options.out;
  out["resumed"] = result.resumed;
  for (const auto& r : result.layers) {
    std::vector<std::vector<int64_t>> out_dims, in_dims, bonds;  // of each term
    for (const model::NetworkShape& network : r.networks) {
      out_dims.push_back(network.out_dims);
      in_dims.push_back(network.in_dims);
      bonds.push_back(network.bonds);
    }
    out["layers"].push_back({{"name", r.plan.layer.name},
                             {"out_dims", out_dims},
                             {"in_dims", in_dims},
                             {"bonds", bonds},
                             {"parameters", r.parameters},
                             {"method", r.method},
                             {"relative_error", r.relative_error}});
    if (r.plan.neurons) out["layers"].back()["neurons"] = *r.plan.neurons;
    if (r.plan.is_rounded()) out["layers"].back()["form"] = plan::form_text(r.plan);
    for (const compress::Candidate& c : r.candidates) {
      out["layers"].back()["candidates"].push_back({{"method", c.method},
                                                    {"error", c.error},
                                                    {"parameters", c.parameters},
                                                    {"finished", c.finished}});
    }
    if (r.weighted_error) out["layers"].back()["weighted_error"] = *r.weighted_error;
    if (r.rounding_error) out["layers"].back()["rounding_error"] = *r.rounding_error;
  }
  return out;
}

void print(const CompressVerbOptions& options, const pipeline::CompressOutcome& outcome) {
  const compress::CompressResult& result = outcome.result;
  const std::optional<double>& predicted_loss = outcome.predicted_loss;
  if (options.common.json) {
    fmt::print("{}\n", io::json_text(as_json(options, outcome)));
    return;
  }
  Table table;
  table.header = {"layer", "sites (out; in)", "bonds", "kept %", "weight error", "on its inputs"};
  const bool chosen =
      std::ranges::any_of(result.layers, [](const auto& r) { return !r.candidates.empty(); });
  const bool rounded = std::ranges::any_of(
      result.layers, [](const auto& r) { return r.rounding_error.has_value(); });
  if (rounded) table.header.emplace_back("rounding");
  if (chosen) table.header.insert(table.header.end(), {"method", "tried (> given up)"});
  for (const auto& r : result.layers) {
    table.rows.push_back({r.plan.layer.name, model::sites_text(r.networks),
                          r.plan.neurons        ? fmt::format("{} neurons", *r.plan.neurons)
                          : r.plan.is_rounded() ? plan::form_text(r.plan)
                                                : model::bonds_text(r.networks),
                          fmt::format("{:.1f}", 100.0 * static_cast<double>(r.parameters) /
                                                    static_cast<double>(r.plan.layer.numel())),
                          fmt::format("{:.4f}", r.relative_error),
                          r.weighted_error ? fmt::format("{:.4f}", *r.weighted_error) : "-"});
    if (rounded) table.rows.back().push_back(fmt::format("{:.4f}", r.rounding_error.value_or(0)));
    if (chosen) {
      table.rows.back().push_back(r.method);
      table.rows.back().push_back(candidates_text(r.candidates));
    }
  }
  if (!options.common.quiet) fmt::print("{}\n", table.aligned());
  fmt::print("{}", sizes_text(result.summary));
  if (buys_forms(options)) {
    fmt::print("{}forms            {}\n", bits_text(result.summary),
               package::forms_text(result.summary));
  }
  if (predicted_loss) {
    fmt::print("predicted loss: {:.4g} nats a token, the sum over layers, each changed alone\n",
               *predicted_loss);
  }
  fmt::print("written to {}\n", options.out);
}

/// The recipe that the options ask for. The paper leaves L7 out everywhere, since its
/// truncation knows nothing of sensitivity; a calibrated method decides for itself.
pipeline::CompressRecipe recipe_of(const CompressVerbOptions& options,
                                   const io::Checkpoint& checkpoint) {
  if (!options.recipe.empty()) {
    return pipeline::recorded_recipe(io::Checkpoint::open(options.recipe), checkpoint);
  }
  TORCH_CHECK_VALUE(chosen_method(options).integers == buys_forms(options), "[method] ",
                    std::string(chosen_method(options).name),
                    buys_forms(options)
                        ? " makes no integers of few bits, which --size and --speedup spend on"
                        : " makes integers of few bits; expected --size, --speedup, or the verb "
                          "quantize");
  pipeline::CompressRecipe recipe;
  recipe.keep = options.keep;
  recipe.bond = options.bond;
  recipe.fit = options.factorize;
  recipe.text = options.calibration;
  recipe.text.seed = options.common.seed;
  std::string dtype = options.common.dtype;
  if (buys_forms(options)) {
    const int64_t weights = package::summarize(checkpoint).dense_parameters;
    if (options.bits_per_weight) {
      recipe.bytes = *options.bits_per_weight / 8.0 * static_cast<double>(weights);
    }
    if (!options.size.empty()) recipe.bytes = parse_size(options.size);
    recipe.speedup = options.speedup;
    recipe.workload = options.workload;
    recipe.workload.prefill = options.speed_of == "prefill";
    if (dtype == "float32") recipe.workload.dtype = torch::kFloat32;
    recipe.method = chosen_method(options).name;
    recipe.forms = {options.scheme == "symmetric", options.group,
                    pipeline::form_kinds(options.forms)};
    recipe.selection = {options.layers, options.ignore};
    if (!options.given.contains("--ignore")) recipe.selection.ignore = {"none"};
    if (dtype.empty()) dtype = "bfloat16";  // of what stays: no more than 2 bytes a number
  } else if (!options.plan.empty()) {
    recipe.plan = plan::read_plan(options.plan, checkpoint);
    recipe.pruning = recipe.plan->pruning;
    if (!recipe.pruning.empty()) recipe.mlp = pipeline::MlpForm::kNeurons;
    compress::check_methods(recipe.plan->layers, options.plan);
    recipe.method = options.method;
    if (dtype.empty()) dtype = recipe.plan->dtype;
  } else {
    const compress::Method& method = chosen_method(options);
    recipe.method = method.name;
    recipe.shape = shape_choice(options);
    recipe.share_inputs = options.share_inputs;
    recipe.selection = {options.layers, options.ignore};
    if (!options.given.contains("--ignore")) {
      recipe.selection.ignore = {method.needs_inputs ? "none" : "L7"};
    }
    if (by_sensitivity(options)) {
      recipe.allocation = pipeline::Allocation::kSensitivity;
      recipe.shape.low_rank = options.shape != "balanced";
    }
  }
  if (options.mlp == "neurons") recipe.mlp = pipeline::MlpForm::kNeurons;
  if (!dtype.empty()) recipe.dtype = dtype == "bfloat16" ? torch::kBFloat16 : torch::kFloat32;
  return recipe;
}

/// An option that no method at work reads is a mistake about what is going to happen.
void check_options(const CompressVerbOptions& options,
                   const std::vector<const compress::Method*>& methods) {
  TORCH_CHECK_VALUE(options.allocation != "sensitivity" || by_sensitivity(options),
                    "[allocation] sensitivity is known to --method fisher and auto with --keep, ",
                    "not to ", std::string(methods[0]->name), options.bond ? " with --bond" : "");
  TORCH_CHECK_VALUE(
      !by_sensitivity(options) || (options.out_dims.empty() && options.shape != "balanced"),
      "[sites] expected --allocation uniform with --out-dims and with --shape "
      "balanced, since sensitivity is measured for low ranks only");
  check_options_are_read("compress", options.given,
                         {{{"--group", "--scheme", "--forms"}, buys_forms(options), "--size"},
                          {{"--mlp"},
                           by_sensitivity(options) || buys_forms(options),
                           "--size, --speedup and with --keep by sensitivity"},
                          {{"--share-inputs", "--gauge", "--shape", "--out-dims", "--in-dims"},
                           !buys_forms(options),
                           "--keep and --bond"}});
  check_options_are_read("compress", options.given,
                         speed_conditions(options.speedup.has_value(), options.speed_of));
  for (const MethodOption& option : kMethodOptions) {
    const auto reads = [&](const compress::Method* m) { return option.read_by(*m); };
    const bool measured = buys_forms(options) && std::string_view(option.name) == "--statistics";
    if (!options.given.contains(option.name) || measured || std::ranges::any_of(methods, reads)) {
      continue;
    }
    std::vector<std::string_view> readers;
    for (const compress::Method* m : compress::methods()) {
      if (m->integers == buys_forms(options) && !m->prunes && option.read_by(*m))
        readers.push_back(m->name);
    }
    std::vector<std::string_view> others;
    for (const compress::Method* m : methods) others.push_back(m->name);
    TORCH_CHECK_VALUE(false, "[compress] ",
                      fmt::format("{} is read by --method {}, not by {}", option.name,
                                  fmt::join(readers, ", "), fmt::join(others, ", ")));
  }
}

void check_budget(const CompressVerbOptions& options) {
  const int asked = (options.keep ? 1 : 0) + (options.bond ? 1 : 0) +
                    (options.size.empty() ? 0 : 1) + (options.bits_per_weight ? 1 : 0) +
                    (options.speedup ? 1 : 0) + (options.plan.empty() ? 0 : 1) +
                    (options.recipe.empty() ? 0 : 1);
  TORCH_CHECK_VALUE(asked == 1,
                    "[compress] expected one of --keep, --size, --bits-per-weight, --speedup, "
                    "--bond (with --sites), --plan and --recipe, got ",
                    asked == 0 ? "none" : "several");
  if (!options.size.empty()) parse_size(options.size);
}

pipeline::CompressOutcome compress_by(const CompressVerbOptions& options, const NoteFn& note,
                                      const Reporter& reporter) {
  apply_common_options(options.common);
  keep_freed_memory();  // every block asks for the same large ones
  const io::Checkpoint checkpoint = open_checkpoint(options.model, note);
  const pipeline::CompressRecipe recipe = recipe_of(options, checkpoint);
  if (options.recipe.empty()) check_options(options, methods_of(recipe));
  pipeline::CompressRun run{.out = options.out, .force = options.force};
  if (!options.statistics.empty()) run.statistics = options.statistics;
  if (!options.plan.empty()) run.also_read.push_back({"the plan", options.plan});
  if (!options.recipe.empty()) {
    run.also_read.push_back({"the recipe", io::locate_model(options.recipe)});
  }
  return compress_as_asked(checkpoint, recipe, run, options.common, reporter);
}

void run(const CompressVerbOptions& options) {
  ProgressLine progress(options.common.quiet || parallel::rank() != 0);
  const auto outcome = compress_by(options, printed_notes(options.common), progress.reporter());
  progress.clear();
  if (parallel::rank() == 0) print(options, outcome);
}

nlohmann::ordered_json call(const CompressVerbOptions& options, const Caller& caller) {
  return as_json(options, compress_by(options, caller.reporter.note, caller.reporter));
}

}  // namespace

Action add_compress(CLI::App& verb) {
  auto options = std::make_shared<CompressVerbOptions>();
  add_model_argument(verb, options->model);
  verb.add_option("-o,--out", options->out, "Folder of the new checkpoint")
      ->type_name(kFolderValue)
      ->required();
  verb.add_flag("--force", options->force, "Replace the checkpoint that schmidt wrote there");
  verb.add_option("--keep", options->keep,
                  "Share of the whole model's parameters that stays, (0, 1]");
  verb.add_option(
      "--size", options->size,
      "Instead of --keep: bytes of the weights' file, 80MB or 1.5GB, spent on the forms "
      "of each layer that are predicted to lose the least");
  verb.add_option("--bits-per-weight", options->bits_per_weight,
                  "The same as a share: bits of the file over the original's parameters")
      ->check(kPositive);
  add_speed_options(verb, options->speedup, options->speed_of, options->workload,
                    "Instead of --keep");
  verb.add_option("--group", options->group,
                  "--size: weights of a row that share a scale (0: 32, 64 and 128 compete)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--scheme", options->scheme,
                  "--size: integers with zero points, or symmetric about zero without")
      ->check(CLI::IsMember({"asymmetric", "symmetric"}))
      ->capture_default_str();
  add_forms_option(verb, options->forms, "--size");
  verb.add_option("--steps", options->factorize.steps, "learned: steps of each block")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--bond", options->bond, "Instead of --keep: one bond dimension for every cut");
  CLI::Option* plan =
      verb.add_option("--plan", options->plan, "Instead of --keep: a plan made by schmidt plan")
          ->type_name(kFileValue);
  CLI::Option* recipe = verb.add_option("--recipe", options->recipe,
                                        "A compressed checkpoint, whose recipe is followed again")
                            ->type_name(kModelValue);
  verb.add_option("--sites", options->factorize.sites, "Sites of each MPO")->capture_default_str();
  verb.add_option("--shape", options->shape,
                  "How indices are split: balanced, or low-rank, (m,1)x(1,n); fisher and whitened "
                  "know low-rank only")
      ->check(CLI::IsMember({"balanced", "low-rank"}));
  verb.add_option("--out-dims", options->out_dims, "Sites by hand: row sub-dimensions, a,b,..")
      ->delimiter(',');
  verb.add_option("--in-dims", options->in_dims, "Sites by hand: column sub-dimensions, a,b,..")
      ->delimiter(',');
  verb.add_option("--method", options->method,
                  "How cores are found; auto takes for each layer what loses the least "
                  "(default: fisher with --keep, learned with --size, tt-svd with --bond)")
      ->check(CLI::IsMember(all_method_names()));
  verb.add_option("--allocation", options->allocation,
                  "fisher, auto: give more to layers that lose more (sensitivity), or the same "
                  "share to all "
                  "(uniform), as the other methods do")
      ->check(CLI::IsMember({"sensitivity", "uniform"}));
  verb.add_option(
          "--mlp", options->mlp,
          "--keep, --size, --speedup: neurons: MLPs may lose neurons, the down projection fitted "
          "anew to those that are kept; low-rank: all layers stay of full size, but for their "
          "ranks")
      ->check(CLI::IsMember({"low-rank", "neurons"}))
      ->capture_default_str();
  verb.add_flag("--share-inputs", options->share_inputs,
                "Use one basis for layers that read the same input: q, k, v; gate, up");
  verb.add_option("--gauge", options->gauge,
                  "Store the fixed gauge, without redundant numbers, or the full gauge")
      ->check(CLI::IsMember({"fixed", "full"}))
      ->capture_default_str();
  add_calibration_options(verb, options->calibration);
  verb.add_option("--statistics", options->statistics,
                  "Folder in which the statistics of calibration are kept for another run")
      ->type_name(kFolderValue);
  verb.add_option("--drift", options->factorize.drift,
                  "How far a layer's target follows the activation mismatch of its inputs, 0 to 1")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--damping", options->factorize.damping,
                  "Added to the gradient's moments, relative to their mean")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--ridge", options->factorize.ridge,
                  "Added to the inputs' moments, relative to their mean")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--sweeps", options->factorize.als.sweeps,
                  "als: at most so many sweeps over the sites, each there and back")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--rounds", options->factorize.fit.rounds,
                  "gauss-newton, sum, auto: at most so many rounds, each on all cores at once")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option(
          "--tolerance", options->factorize.tolerance,
          "tt-svd, als, gauss-newton: take a smaller bond where the relative error of the first "
          "truncation stays below this")
      ->check(CLI::Range(0.0, 1.0));
  verb.add_option("--layers", options->layers,
                  "Layers to take: names, ends of names, L1..L7, patterns, re:EXPRESSION")
      ->delimiter(',');
  verb.add_option("--ignore", options->ignore,
                  "Layers to leave alone, \"none\" for nothing (default: L7 unless calibrated)")
      ->delimiter(',');
  for (const char* planned : {"--shape", "--out-dims", "--in-dims", "--allocation", "--mlp",
                              "--share-inputs", "--gauge", "--layers", "--ignore"}) {
    plan->excludes(planned);
  }
  verb.get_option("--speedup")->excludes("--layers");
  for (CLI::Option* other : verb.get_options()) {
    const std::string& name = other->get_single_name();
    const bool of_the_run = name == "recipe" || name == "MODEL" || name == "out" ||
                            name == "force" || name == "statistics" || name == "help";
    if (!of_the_run) recipe->excludes(other);
  }
  add_common_options(verb, options->common);
  return {[options, &verb] {
            options->given = given_options(verb);
            check_budget(*options);
          },
          [options] { run(*options); },
          [options](const Caller& caller) { return call(*options, caller); }};
}

}  // namespace schmidt::cli
