#include "schmidt/compress/compress.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/calibrate/statistics.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/shared_work.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/model/network.h"
#include "schmidt/model/require_model.h"
#include "schmidt/plan/allocate.h"
#include "schmidt/plan/plan_file.h"
#include "schmidt/plan/uniform.h"

namespace schmidt::cli {
namespace {

/// No layer falls below this share of its full rank: there a quadratic prediction of
/// the loss says nothing any more.
constexpr double kLeastRankShare = 0.02;

struct CompressVerbOptions {
  CommonOptions common;
  std::string model;
  std::string out;
  bool force = false;
  std::optional<double> keep;
  std::optional<int64_t> bond;
  std::string plan;   // a file to take it from
  std::string shape;  // empty: balanced where the method can
  std::vector<int64_t> out_dims, in_dims;
  std::string method;      // empty: the default
  std::string allocation;  // empty: by sensitivity where the method knows it
  std::string gauge = "fixed";
  bool share_inputs = false;
  std::string statistics;  // a folder to keep them in
  compress::MethodOptions factorize;
  CalibrationOptions calibration;
  std::vector<std::string> layers;
  std::vector<std::string> ignore;
  std::set<std::string> given;  // options on the command line
};

/// An option that some methods read.
struct MethodOption {
  const char* name;
  bool (*read_by)(const compress::Method& method);
};

bool has_sites(const compress::Method& m) { return m.any_shape; }
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
    {"--tolerance",
     [](const compress::Method& m) { return m.reads(compress::MethodSetting::kTolerance); }},
};

/// What a plan's methods need together.
struct Needs {
  bool inputs = false, gradient = false, outputs = false;
};

/// Without --method a bond by hand asks for the paper's plain truncation, a share to keep
/// for what loses the least on every model seen so far.
const compress::Method& chosen_method(const CompressVerbOptions& options) {
  if (!options.method.empty()) return compress::find_method(options.method);
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
  if (!options.out_dims.empty()) choice.by_hand = tn::SiteShape{options.out_dims, options.in_dims};
  return choice;
}

/// What goes into the checkpoint; `tokens` of calibration were used.
nlohmann::json recipe(const CompressVerbOptions& options, const std::optional<plan::PlanFile>& plan,
                      int64_t tokens) {
  const compress::Method& method = chosen_method(options);
  const bool as_planned = plan && options.method.empty();
  nlohmann::json made_by = {{"program", "schmidt " SCHMIDT_VERSION},
                            {"method", as_planned ? "as planned" : method.name},
                            {"sites", options.factorize.sites},
                            {"tolerance", options.factorize.tolerance}};
  if (options.keep) made_by["keep"] = *options.keep;
  if (options.bond) made_by["bond"] = *options.bond;
  if (plan) {
    made_by["plan"] = plan->made_by;
  } else {
    const bool low_rank = by_sensitivity(options) || shape_choice(options).low_rank;
    made_by["shape"] = low_rank ? "low-rank" : "balanced";
    made_by["gauge"] = options.gauge;
    made_by["layers"] = options.layers;
    made_by["ignore"] = options.ignore;
    made_by["share_inputs"] = options.share_inputs;
  }
  if (!options.out_dims.empty()) {
    made_by["out_dims"] = options.out_dims;
    made_by["in_dims"] = options.in_dims;
  }
  if (tokens > 0) {
    made_by["calibration"] = {{"files", options.calibration.files},
                              {"tokens", tokens},
                              {"context", options.calibration.context},
                              {"seed", options.common.seed}};
    if (!plan) {
      made_by["allocation"] = by_sensitivity(options) ? "sensitivity" : "uniform";
    }
    made_by["drift"] = options.factorize.drift;
    made_by["damping"] = options.factorize.damping;
    made_by["ridge"] = options.factorize.ridge;
  }
  return made_by;
}

std::string candidates_text(const std::vector<compress::Candidate>& candidates) {
  std::string text;
  for (const compress::Candidate& c : candidates) {
    text += fmt::format("{}{} {}{:.4f}", text.empty() ? "" : ", ", c.method, c.finished ? "" : ">",
                        c.error);
  }
  return text;
}

void print(const CompressVerbOptions& options, const compress::CompressResult& result,
           const std::optional<double>& predicted_loss) {
  if (options.common.json) {
    nlohmann::ordered_json out = sizes_json(result.summary);
    if (predicted_loss) out["predicted_loss"] = *predicted_loss;
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
      for (const compress::Candidate& c : r.candidates) {
        out["layers"].back()["candidates"].push_back({{"method", c.method},
                                                      {"error", c.error},
                                                      {"parameters", c.parameters},
                                                      {"finished", c.finished}});
      }
      if (r.weighted_error) out["layers"].back()["weighted_error"] = *r.weighted_error;
      if (r.rounding_error) out["layers"].back()["rounding_error"] = *r.rounding_error;
    }
    fmt::print("{}\n", out.dump());
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
                          model::bonds_text(r.networks),
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
  if (predicted_loss) {
    fmt::print("predicted loss: {:.4g} nats a token, the sum over layers changed alone\n",
               *predicted_loss);
  }
  fmt::print("written to {}\n", options.out);
}

/// The layers that may be compressed. The paper leaves L7 out everywhere, since its
/// truncation knows nothing of sensitivity; a calibrated method decides for itself.
std::vector<plan::Layer> chosen_layers(const io::Checkpoint& checkpoint,
                                       const CompressVerbOptions& options) {
  const bool calibrated = chosen_method(options).needs_inputs;
  plan::LayerSelection selection{options.layers, options.ignore};
  if (!options.given.contains("--ignore")) selection.ignore = {calibrated ? "none" : "L7"};
  const auto dense = plan::dense_layers(checkpoint);
  plan::check_patterns("ignore", options.ignore, dense);
  auto layers = plan::select_layers(dense, selection);
  return options.share_inputs ? plan::share_inputs(layers) : layers;
}

/// --bond, or --keep with the same share of every layer.
std::vector<plan::LayerPlan> plan_uniformly(const CompressVerbOptions& options,
                                            const std::vector<plan::Layer>& layers,
                                            int64_t model_parameters) {
  const plan::ShapeChoice shape = shape_choice(options);
  auto plan = options.bond ? plan::plan_bond(layers, shape, *options.bond)
                           : plan::plan_keep(layers, shape, *options.keep, model_parameters);
  for (plan::LayerPlan& p : plan) p.method = chosen_method(options).name;
  return plan;
}

plan::CurvePlan plan_by_sensitivity(const CompressVerbOptions& options,
                                    const std::vector<plan::Layer>& layers,
                                    const calibrate::Statistics& statistics,
                                    int64_t model_parameters) {
  const bool fixed_gauge = shape_choice(options).fixed_gauge;
  std::vector<plan::LayerCurve> curves;
  for (const plan::Layer& layer : layers) {
    curves.push_back(
        plan::predicted_curve(layer, statistics.squares(layer), kLeastRankShare, fixed_gauge));
  }
  return plan::plan_by_curves(curves, *options.keep, model_parameters,
                              std::string(chosen_method(options).name), fixed_gauge);
}

/// --plan; --method, where it is given, in place of the plan's.
std::optional<plan::PlanFile> planned(const io::Checkpoint& checkpoint,
                                      const CompressVerbOptions& options) {
  if (options.plan.empty()) return std::nullopt;
  auto plan = plan::read_plan(options.plan, checkpoint);
  compress::check_methods(plan.layers, options.plan);
  if (!options.method.empty()) {
    for (plan::LayerPlan& p : plan.layers) p.method = options.method;
  }
  return plan;
}

std::vector<plan::Layer> layers_of(const std::vector<plan::LayerPlan>& plan) {
  std::vector<plan::Layer> layers;
  for (const plan::LayerPlan& p : plan) layers.push_back(p.layer);
  return layers;
}

/// Each once.
std::vector<const compress::Method*> methods_of(const std::vector<plan::LayerPlan>& plan) {
  std::set<const compress::Method*> all;
  for (const plan::LayerPlan& p : plan) all.insert(&compress::find_method(p.method));
  return {all.begin(), all.end()};
}

Needs needs_of(const std::vector<const compress::Method*>& methods) {
  Needs all;
  for (const compress::Method* m : methods) {
    all.inputs = all.inputs || m->needs_inputs;
    all.gradient = all.gradient || m->needs_gradient;
    all.outputs = all.outputs || m->needs_outputs;
  }
  return all;
}

/// An option that no method at work reads is a mistake about what is going to happen.
void check_options(const CompressVerbOptions& options,
                   const std::vector<const compress::Method*>& methods) {
  TORCH_CHECK_VALUE(options.allocation != "sensitivity" || by_sensitivity(options),
                    "[allocation] sensitivity is known to --method fisher and auto with --keep, ",
                    "not to ", std::string(methods[0]->name), options.bond ? " with --bond" : "");
  for (const MethodOption& option : kMethodOptions) {
    const auto reads = [&](const compress::Method* m) { return option.read_by(*m); };
    if (!options.given.contains(option.name) || std::ranges::any_of(methods, reads)) continue;
    std::vector<std::string_view> readers;
    for (const compress::Method* m : compress::methods()) {
      if (option.read_by(*m)) readers.push_back(m->name);
    }
    std::vector<std::string_view> others;
    for (const compress::Method* m : methods) others.push_back(m->name);
    TORCH_CHECK_VALUE(false, "[compress] ",
                      fmt::format("{} is read by --method {}, not by {}", option.name,
                                  fmt::join(readers, ", "), fmt::join(others, ", ")));
  }
}

void run(const CompressVerbOptions& options) {
  apply_common_options(options.common);
  const int asked =
      (options.keep ? 1 : 0) + (options.bond ? 1 : 0) + (options.plan.empty() ? 0 : 1);
  TORCH_CHECK_VALUE(asked == 1,
                    "[compress] expected one of --keep, --bond (with --sites) and --plan, got ",
                    asked == 0 ? "none" : "several");
  const io::Checkpoint checkpoint = io::Checkpoint::open(options.model);
  model::require_model(checkpoint);
  const auto read = planned(checkpoint, options);
  const auto layers = read ? layers_of(read->layers) : chosen_layers(checkpoint, options);
  const int64_t parameters = package::summarize(checkpoint).parameters;
  const auto methods = read ? methods_of(read->layers) : std::vector{&chosen_method(options)};
  const Needs needs = needs_of(methods);
  const bool calibrated = needs.inputs && options.keep != 1.0;
  // Mistakes that hours of calibration would otherwise hide, before anything is written.
  check_options(options, methods);
  std::optional<std::vector<plan::LayerPlan>> plan;
  if (read) plan = read->layers;
  if (calibrated && !read && by_sensitivity(options)) {
    const plan::ShapeChoice shape = shape_choice(options);
    TORCH_CHECK_VALUE(!shape.by_hand && options.shape != "balanced",
                      "[sites] expected --allocation uniform with --out-dims and with --shape ",
                      "balanced, since sensitivity is known of low ranks only");
    plan::check_keep(layers, *options.keep, parameters, kLeastRankShare, shape.fixed_gauge);
  } else {
    if (!plan) plan = plan_uniformly(options, layers, parameters);
    compress::check_plan(*plan, options.factorize);
  }
  const AtomicFolder claimed(options.out, options.force);
  const calibrate::Workers workers = ranks_as_workers();

  compress::CompressOptions compress_options;
  compress_options.method = options.factorize;
  CommonOptions written = options.common;
  if (read && written.dtype.empty()) written.dtype = read->dtype;
  if (!written.dtype.empty()) compress_options.dtype = written.torch_dtype(torch::kFloat32);
  compress_options.force = options.force;
  compress_options.workers = workers;

  ProgressLine progress(options.common.quiet || !workers.first());
  std::optional<calibrate::Statistics> statistics;
  const std::string folder =
      options.statistics.empty() ? options.out + ".statistics" : options.statistics;
  if (calibrated) {
    compress::Calibration calibration;
    calibration.windows = shared_calibration_text(checkpoint, options.calibration, options.common,
                                                  progress.callback());
    calibration.workers = workers;
    calibration.dtype = options.common.calibration_dtype();
    calibration.device = options.common.torch_device();
    if (needs.gradient) {
      calibrate::StatisticsOptions statistics_options;
      statistics_options.damping = options.factorize.damping;
      statistics_options.seed = options.common.seed;
      statistics_options.outputs = needs.outputs;
      statistics_options.force = options.force && options.statistics.empty();
      statistics_options.workers = workers;
      const calibrate::StreamedModel model(checkpoint, {calibration.dtype, calibration.device});
      statistics = calibrate::Statistics::collect(checkpoint, model, layers, calibration.windows,
                                                  folder, statistics_options, progress.callback());
      calibration.statistics = &*statistics;
    }
    compress_options.calibration = std::move(calibration);
  }
  compress_options.made_by = recipe(
      options, read, calibrated ? compress_options.calibration->windows.numel() : int64_t{0});
  std::optional<double> predicted_loss;
  if (!plan) {
    plan::CurvePlan bought = plan_by_sensitivity(options, layers, *statistics, parameters);
    plan = std::move(bought.layers);
    predicted_loss = bought.loss;
  }
  const auto result =
      compress::compress(checkpoint, *plan, options.out, compress_options, progress.callback());
  progress.clear();
  if (!workers.first()) return;
  if (statistics && options.statistics.empty()) std::filesystem::remove_all(folder);
  print(options, result, predicted_loss);
}

}  // namespace

Run add_compress(CLI::App& verb) {
  auto options = std::make_shared<CompressVerbOptions>();
  verb.add_option("MODEL", options->model, "Hugging Face folder or .gguf file")->required();
  verb.add_option("-o,--out", options->out, "Folder of the new checkpoint")->required();
  verb.add_flag("--force", options->force, "Replace the folder if it exists");
  verb.add_option("--keep", options->keep,
                  "Share of the whole model's parameters that stays, (0, 1]");
  verb.add_option("--bond", options->bond, "Bond dimension of every cut instead");
  CLI::Option* plan =
      verb.add_option("--plan", options->plan, "A plan made by schmidt plan instead");
  verb.add_option("--sites", options->factorize.sites, "Sites of each MPO")->capture_default_str();
  verb.add_option("--shape", options->shape,
                  "How indices are split: balanced where the method can, or (m,1)x(1,n)")
      ->check(CLI::IsMember({"balanced", "low-rank"}));
  verb.add_option("--out-dims", options->out_dims, "Sites by hand: row sub-dimensions, a,b,..")
      ->delimiter(',');
  verb.add_option("--in-dims", options->in_dims, "Sites by hand: column sub-dimensions, a,b,..")
      ->delimiter(',');
  std::vector<std::string> names;
  for (const compress::Method* method : compress::methods()) names.emplace_back(method->name);
  verb.add_option("--method", options->method,
                  "How cores are found; auto: for each layer what loses the least "
                  "(fisher with --keep, tt-svd with --bond)")
      ->check(CLI::IsMember(names));
  verb.add_option("--allocation", options->allocation,
                  "fisher, auto: where parameters go: by sensitivity, or the same share everywhere "
                  "(uniform), as with the other methods")
      ->check(CLI::IsMember({"sensitivity", "uniform"}));
  verb.add_flag("--share-inputs", options->share_inputs,
                "q, k, v and gate, up each as one layer on one basis");
  verb.add_option("--gauge", options->gauge,
                  "Store bonds without their gauge (fixed), or plain cores (full)")
      ->check(CLI::IsMember({"fixed", "full"}))
      ->capture_default_str();
  add_calibration_options(verb, options->calibration);
  verb.add_option("--statistics", options->statistics,
                  "Folder in which the statistics of calibration are kept for another run");
  verb.add_option("--drift", options->factorize.drift,
                  "How far targets follow the drift of inputs, 0 to 1")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--damping", options->factorize.damping,
                  "Added to the gradient's moments, relative to their mean")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--ridge", options->factorize.ridge,
                  "Added to the inputs' moments, relative to their mean")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--sweeps", options->factorize.als.sweeps,
                  "als: sweeps over the sites at most, each there and back")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--rounds", options->factorize.fit.rounds,
                  "gauss-newton, sum, auto: rounds at most, each on all cores at once")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--tolerance", options->factorize.tolerance,
                  "tt-svd, als, gauss-newton: relative error of the first truncation at which a "
                  "smaller bond is taken")
      ->check(CLI::Range(0.0, 1.0));
  verb.add_option("--layers", options->layers,
                  "Layers to take: names, ends of names, L1..L7, patterns, re:EXPRESSION")
      ->delimiter(',');
  verb.add_option("--ignore", options->ignore,
                  "Layers to leave alone (\"none\": nothing); L7 unless calibrated")
      ->delimiter(',');
  for (const char* planned : {"--shape", "--out-dims", "--in-dims", "--allocation",
                              "--share-inputs", "--gauge", "--layers", "--ignore"}) {
    plan->excludes(planned);
  }
  add_common_options(verb, options->common);
  return [options, &verb] {
    for (const CLI::Option* option : verb.get_options()) {
      if (option->count() > 0) options->given.insert("--" + option->get_single_name());
    }
    run(*options);
  };
}

}  // namespace schmidt::cli
