#include <algorithm>

#include <fmt/format.h>

#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/json.h"
#include "schmidt/kernels/product_speed.h"
#include "schmidt/pipeline/plan_model.h"
#include "schmidt/plan/preset.h"

namespace schmidt::cli {
namespace {

struct PlanOptions {
  CommonOptions common;
  std::string model, profile, statistics, out, size,
      shape = "balanced", gauge = "fixed", allocation, speed_of = "decode", mlp = "low-rank";
  bool force = false;
  std::vector<std::string> forms = pipeline::names_of(std::nullopt);
  pipeline::PlanRecipe recipe;
  double tflops = 0.0;  // 0: measured
};

pipeline::PlanRecipe recipe_of(const PlanOptions& options) {
  pipeline::PlanRecipe recipe = options.recipe;
  const int budgets = (recipe.keep ? 1 : 0) + (options.size.empty() ? 0 : 1) +
                      (recipe.preset.empty() ? 0 : 1) + (recipe.speedup ? 1 : 0);
  TORCH_CHECK_VALUE(budgets == 1,
                    "[plan] expected one of --keep, --size, --speedup and --preset, got ", budgets);
  TORCH_CHECK_VALUE(options.allocation != "profile" || !options.profile.empty(),
                    "[plan] --allocation profile expected --profile");
  if (!options.size.empty()) recipe.bytes = parse_size(options.size);
  if (!options.profile.empty()) recipe.profile = options.profile;
  if (!options.statistics.empty()) {
    TORCH_CHECK_VALUE((!options.size.empty() || recipe.speedup) && options.profile.empty(),
                      "[plan] --statistics expected --size or --speedup, and no --profile");
    recipe.statistics = options.statistics;
    recipe.workload.prefill = options.speed_of == "prefill";
    if (options.common.dtype == "float32") recipe.workload.dtype = torch::kFloat32;
    recipe.forms.kinds = pipeline::form_kinds(options.forms);
    recipe.neurons = options.mlp == "neurons";
  }
  TORCH_CHECK_VALUE(!recipe.speedup || recipe.statistics, "[plan] --speedup expected --statistics");
  recipe.by_profile = options.allocation != "uniform";
  recipe.shape.low_rank = options.shape == "low-rank";
  recipe.shape.fixed_gauge = options.gauge == "fixed";
  recipe.dtype = options.common.dtype;
  return recipe;
}

/// Whether a preset has weights in integers.
bool rounds(const std::string& name) {
  if (name.empty()) return false;
  const plan::Preset& preset = plan::find_preset(name);
  return preset.bits > 0 || preset.mixed_int4;
}

void print(const PlanOptions& options, const plan::Outline& model,
           const pipeline::PlanOutcome& outcome, double flops) {
  const plan::Footprint& f = outcome.footprint;
  const auto count = [](int64_t n) { return human_count(static_cast<double>(n)); };
  const auto percent = [](double part, double whole) { return 100.0 * part / whole; };
  const auto whole = static_cast<double>(model.parameters);
  const auto rounded =
      std::ranges::count_if(outcome.file.layers, [](const auto& p) { return p.is_rounded(); });
  const auto networks = static_cast<int64_t>(outcome.file.layers.size()) - rounded;
  fmt::print("parameters       {} of {}: {:.2f} % of the model{}\n", count(f.parameters),
             count(model.parameters), percent(static_cast<double>(f.parameters), whole),
             networks == 0 ? ""
                           : fmt::format(", {:.2f} % of the {} tensorized layers",
                                         percent(static_cast<double>(f.tensorized),
                                                 static_cast<double>(f.tensorized_before)),
                                         networks));
  if (rounded == 0) {
    fmt::print(
        "weights          {} in float32, {} in float16 ({:.1f} % of the original in float32)\n",
        human_bytes(f.bytes(4)), human_bytes(f.bytes(2)), percent(f.bytes(2), 4 * whole));
  }
  fmt::print(
      "files            {:.0f} bytes as compress writes them{}: {:.1f} % of the original in "
      "float32, {:.3f} bits for each of its parameters\n",
      outcome.bytes, rounded == 0 ? "" : fmt::format(", {} weights in integers", rounded),
      percent(outcome.bytes, 4 * whole), 8 * outcome.bytes / whole);
  const double weights = outcome.bytes;
  const double cache = plan::kv_cache_bytes(model.config, options.recipe.context, 2);
  fmt::print("inference        {}: weights and {} of float16 keys and values at context {}\n",
             human_bytes(weights + cache), human_bytes(cache), options.recipe.context);
  if (outcome.loss) {
    fmt::print(
        "predicted loss   {:.4g} {}, the sum over layers, each changed alone{}\n", *outcome.loss,
        outcome.loss_unit,
        outcome.uniform_loss ? fmt::format(" (uniform: {:.4g})", *outcome.uniform_loss) : "");
  }
  fmt::print(
      "healing          about {} for {} tokens: {:.3g} operations a token at {:.3g} "
      "TFLOP/s{}, an estimate\n",
      human_seconds(f.healing_flops() * options.recipe.heal_tokens / flops),
      human_count(options.recipe.heal_tokens), f.healing_flops(), flops * 1e-12,
      options.tflops > 0 ? "" : " (measured on a float32 product)");
  fmt::print("written to {}\n", options.out);
}

void print_frontier(const plan::Outline& model, const pipeline::PlanOutcome& outcome,
                    const std::string& out) {
  fmt::print(
      "weights          {}, {:.3f} bits for each of the original's {} parameters\n"
      "predicted loss   {:.4g} {}, the sum over layers, each changed alone\n",
      human_bytes(outcome.bytes), 8.0 * outcome.bytes / static_cast<double>(model.parameters),
      human_count(static_cast<double>(model.parameters)), *outcome.loss, outcome.loss_unit);
  if (outcome.speedup) {
    fmt::print("speed            {:.2f} times the original's here, predicted\n", *outcome.speedup);
  }
  for (const pipeline::Frontier& frontier : outcome.frontiers) {
    if (outcome.speedup) break;  // of time
    const auto fits = [&](const plan::Price& p) {
      return static_cast<double>(p.cost) <= outcome.bytes;
    };
    const auto best = std::ranges::find_if(frontier.points.rbegin(), frontier.points.rend(), fits);
    fmt::print("{:<16} {}\n", frontier.name,
               best == frontier.points.rend()
                   ? fmt::format("from {} on",
                                 human_bytes(static_cast<double>(frontier.points.front().cost)))
                   : fmt::format("{:.4g} at {}", best->loss,
                                 human_bytes(static_cast<double>(best->cost))));
  }
  fmt::print("written to {}\nfigure           {}\n", out, outcome.figure.string());
}

void run(const PlanOptions& options) {
  apply_common_options(options.common);
  const pipeline::PlanRecipe recipe = recipe_of(options);
  const plan::Outline model = plan::open_outline(options.model);
  print_notes(model.notes, options.common);
  const pipeline::PlanOutcome outcome =
      pipeline::plan_model(model, recipe, options.out, options.force);

  if (recipe.statistics) {
    if (options.common.json) {
      nlohmann::ordered_json shown = outcome.file.predicted;
      shown["layers"] = outcome.file.layers.size();
      shown["out"] = options.out;
      shown["figure"] = outcome.figure.string();
      fmt::print("{}\n", io::json_text(shown));
    } else {
      print_frontier(model, outcome, options.out);
    }
    return;
  }
  const double flops = options.tflops > 0
                           ? options.tflops * 1e12
                           : kernels::measure_product_speed(options.common.torch_device());
  if (options.common.json) {
    nlohmann::ordered_json out = {{"keep", outcome.file.keep}};
    out.update(nlohmann::ordered_json(outcome.file.predicted));
    out["healing_seconds"] = outcome.footprint.healing_flops() * recipe.heal_tokens / flops;
    out["layers"] = outcome.file.layers.size();
    out["out"] = options.out;
    fmt::print("{}\n", io::json_text(out));
  } else {
    print(options, model, outcome, flops);
  }
}

}  // namespace

Action add_plan(CLI::App& verb) {
  auto options = std::make_shared<PlanOptions>();
  add_model_argument(verb, options->model, ", or a config.json alone");
  verb.add_option("-o,--out", options->out, "The plan: a .json file")
      ->type_name(kFileValue)
      ->required();
  verb.add_flag("--force", options->force, "Replace the file if it exists");
  verb.add_option(
          "--profile", options->profile,
          "Sensitivity measured by schmidt profile; without it every layer keeps the same share")
      ->type_name(kFileValue);
  verb.add_option("--statistics", options->statistics,
                  "With --size or --speedup: statistics of calibration (compress --statistics), by "
                  "which bytes or time are spent on whichever forms of the layers lose the least")
      ->type_name(kFolderValue);
  add_forms_option(verb, options->forms, "--statistics");
  verb.add_option("--mlp", options->mlp,
                  "--statistics: neurons: MLPs may lose neurons before forms are bought; low-rank: "
                  "none does")
      ->check(CLI::IsMember({"low-rank", "neurons"}))
      ->capture_default_str();
  verb.add_option("--group", options->recipe.forms.group,
                  "Weights of a row that share a scale: with --statistics 32, 64 and 128 compete "
                  "unless one is given, presets of integers have 64")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--keep", options->recipe.keep,
                  "Share of the whole model's parameters that stays, (0, 1]");
  verb.add_option(
      "--size", options->size,
      "Instead of --keep: bytes of all weights, 120MB or 1.5GB, at 2 bytes each (4 with --dtype "
      "float32); compress writes that format");
  add_speed_options(verb, options->recipe.speedup, options->speed_of, options->recipe.workload,
                    "Instead of --keep, with --statistics");
  std::vector<std::string> presets;
  for (const plan::Preset& preset : plan::presets()) presets.emplace_back(preset.name);
  verb.add_option("--preset", options->recipe.preset,
                  "Instead of --keep: the budget of a model of the paper")
      ->check(CLI::IsMember(presets));
  verb.add_option("--allocation", options->allocation,
                  "Allocate by the profile, or uniformly as a control")
      ->check(CLI::IsMember({"profile", "uniform"}));
  verb.add_option("--floor", options->recipe.limits.floor,
                  "Smallest share of its parameters that a layer keeps")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--ceiling", options->recipe.limits.ceiling,
                  "Largest share of its parameters that a layer keeps")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--protect", options->recipe.protect,
                  "Layers that stay dense: names, ends of names, L1..L7, patterns")
      ->delimiter(',');
  verb.add_option("--ignore", options->recipe.ignore,
                  "More layers that stay dense, \"none\" for nothing (default: L7 without a "
                  "profile and in presets)")
      ->delimiter(',');
  verb.add_option("--method", options->recipe.method,
                  "How cores will be found (default: the profile's method, or tt-svd)")
      ->check(CLI::IsMember(all_method_names()));
  verb.add_option("--sites", options->recipe.shape.sites, "Without a profile: sites of each MPO")
      ->capture_default_str();
  verb.add_option("--shape", options->shape,
                  "Without a profile: balanced, or low-rank, (m,1)x(1,n)")
      ->check(CLI::IsMember({"balanced", "low-rank"}))
      ->capture_default_str();
  verb.add_option("--gauge", options->gauge, "Without a profile: fixed or full gauge")
      ->check(CLI::IsMember({"fixed", "full"}))
      ->capture_default_str();
  verb.add_option("--context", options->recipe.context, "Tokens for which memory is predicted")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--heal-tokens", options->recipe.heal_tokens,
                  "Tokens of healing whose time is estimated")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--tflops", options->tflops,
                  "Speed of the machine that heals (default: measured on this machine)")
      ->check(kPositive);
  add_common_options(verb, options->common);
  const auto check = [options, &verb] {
    const bool measured = !options->profile.empty() || !options->statistics.empty();
    check_options_are_read(
        "plan", given_options(verb),
        {{{"--sites", "--shape", "--gauge"}, !measured, "a plan without --profile"},
         {{"--forms", "--mlp"}, !options->statistics.empty(), "a plan with --statistics"},
         {{"--group"},
          !options->statistics.empty() || rounds(options->recipe.preset),
          "a plan with --statistics, and by presets of integers"},
         {{"--sites"}, options->shape != "low-rank", "--shape balanced"}});
    check_options_are_read(
        "plan", given_options(verb),
        speed_conditions(options->recipe.speedup.has_value(), options->speed_of));
    recipe_of(*options);
  };
  return {check, [options] { run(*options); }};
}

}  // namespace schmidt::cli
