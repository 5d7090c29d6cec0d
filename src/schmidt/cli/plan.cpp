#include <chrono>
#include <cmath>

#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>

#include "schmidt/base/file_system.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/outputs.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/json.h"
#include "schmidt/plan/footprint.h"
#include "schmidt/plan/plan_file.h"
#include "schmidt/plan/preset.h"
#include "schmidt/plan/uniform.h"
#include "schmidt/profile/metric.h"
#include "schmidt/profile/plan_by_profile.h"

namespace schmidt::cli {
namespace {

struct PlanOptions {
  CommonOptions common;
  std::string model, profile, out, size, preset, method, shape = "balanced", allocation;
  bool force = false;
  std::optional<double> keep;
  std::vector<std::string> protect, ignore;
  int64_t sites = 2;
  std::string gauge = "fixed";
  profile::ShareLimits limits;
  int64_t context = 4096;
  double heal_tokens = 1e6;
  double tflops = 0.0;  // 0: measured
};

struct Made {
  std::vector<plan::LayerPlan> layers;
  std::optional<double> loss;          // predicted
  std::optional<double> uniform_loss;  // the control at the same budget
  std::string_view loss_unit = {};
};

/// "120MB", "1.5GB", "64MiB", "1000000": bytes.
double parse_size(const std::string& text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},     {"B", 1},       {"KB", 1e3},        {"MB", 1e6},
      {"GB", 1e9}, {"KiB", 1024.}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string_view unit(end);
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, bytes] : kUnits) {
    if (name == unit && end != text.c_str() && std::isfinite(number) && number > 0) {
      return number * bytes;
    }
  }
  TORCH_CHECK_VALUE(false, "[size] expected bytes such as 120MB, 1.5GB or 64MiB, got \"", text,
                    "\"");
}

double bytes_per_scalar(const PlanOptions& options) {
  return options.common.dtype == "float32" ? 4.0 : 2.0;
}

/// What `compress` is to write: a plan by size asks for no more than 2 bytes a weight.
std::string stored_dtype(const PlanOptions& options, const plan::Outline& model) {
  if (!options.common.dtype.empty() || options.size.empty()) return options.common.dtype;
  return model.scalar_bytes == 2 ? "" : "bfloat16";
}

double target_keep(const PlanOptions& options, const plan::Outline& model) {
  if (!options.preset.empty()) return plan::find_preset(options.preset).keep;
  if (options.keep) return *options.keep;
  return std::min(1.0, parse_size(options.size) / bytes_per_scalar(options) /
                           static_cast<double>(model.parameters));
}

/// Whether a pattern means the layer or one of those stacked in it.
bool named(const std::vector<std::string>& patterns, const plan::Layer& layer) {
  return std::ranges::any_of(patterns, [&](const std::string& pattern) {
    if (plan::matches(pattern, layer)) return true;
    for (size_t i = 0; i < layer.members.size(); ++i) {
      const plan::Layer member{layer.members[i], layer.block, {layer.kinds[i]}, {}, 0, 0};
      if (plan::matches(pattern, member)) return true;
    }
    return false;
  });
}

std::vector<std::string> left_alone(const PlanOptions& options) {
  std::vector<std::string> patterns = options.protect;
  patterns.insert(patterns.end(), options.ignore.begin(), options.ignore.end());
  if (!options.preset.empty()) {
    patterns.emplace_back(plan::find_preset(options.preset).ignore);
  } else if (options.profile.empty() && options.ignore.empty()) {
    patterns.emplace_back("L7");  // as in the paper, where nothing says how sensitive it is
  }
  return patterns;
}

void check_reach(const PlanOptions& options, const plan::Outline& model,
                 const std::vector<plan::Layer>& layers, int64_t least, double keep) {
  if (!options.preset.empty()) {
    plan::check_reach(plan::find_preset(options.preset), model, layers, least);
  }
  int64_t reached = model.parameters + least;
  for (const plan::Layer& layer : layers) reached -= layer.numel();
  const auto nearest = static_cast<double>(reached);
  const auto whole = static_cast<double>(model.parameters);
  TORCH_CHECK_VALUE(
      nearest <= keep * whole, "[plan] ",
      fmt::format("{:.4g} of the parameters is out of reach: the least is --keep {:.4f}, {} at {} "
                  "bytes each",
                  keep, std::ceil(1e4 * nearest / whole) / 1e4,
                  human_bytes(nearest * bytes_per_scalar(options)), bytes_per_scalar(options)));
}

void check_any(const std::vector<plan::Layer>& layers) {
  TORCH_CHECK_VALUE(!layers.empty(),
                    "[plan] expected layers to compress, got none: all are "
                    "protected, ignored or not in the profile");
}

/// The same share of every layer.
std::vector<plan::LayerPlan> plan_uniformly(const PlanOptions& options, const plan::Outline& model,
                                            const std::vector<plan::Layer>& layers,
                                            const plan::ShapeChoice& shape,
                                            const std::string& method, double keep) {
  int64_t least = 0;
  for (const auto& p : plan::plan_bond(layers, shape, 1)) least += p.parameters();
  check_reach(options, model, layers, least, keep);
  auto plan = plan::plan_keep(layers, shape, keep, model.parameters);
  for (plan::LayerPlan& p : plan) p.method = method;
  return plan;
}

Made plan_without_profile(const PlanOptions& options, const plan::Outline& model,
                          const std::vector<std::string>& alone, double keep) {
  std::vector<plan::Layer> layers = model.layers;
  std::erase_if(layers, [&](const auto& layer) { return named(alone, layer); });
  check_any(layers);
  plan::ShapeChoice shape;
  shape.sites = options.sites;
  shape.low_rank = options.shape == "low-rank";
  shape.fixed_gauge = options.gauge == "fixed";
  return {plan_uniformly(options, model, layers, shape, "tt-svd", keep), {}, {}};
}

Made plan_with_profile(const PlanOptions& options, const plan::Outline& model,
                       const std::vector<std::string>& alone, double keep) {
  const profile::Profile read = profile::read_profile(options.profile);
  TORCH_CHECK_VALUE(!model.fingerprint || *model.fingerprint == read.model,
                    "[plan] expected a profile of ", model.path.string(), ", got ", options.profile,
                    ", made from another model");
  const std::string_view unit = profile::find_metric(read.metric).loss_unit;
  auto measured = profile::sensitivities(read, model.layers);
  std::erase_if(measured, [&](const auto& s) { return named(alone, s.network.layer); });
  std::vector<plan::Layer> layers;
  for (const auto& s : measured) layers.push_back(s.network.layer);
  check_any(layers);

  const plan::LayerPlan& network = measured.front().network;
  plan::ShapeChoice shape;
  shape.sites = network.shape.sites();
  shape.low_rank = network.shape == tn::low_rank_shape(network.layer.rows, network.layer.cols);
  shape.fixed_gauge = network.fixed_gauge;
  const auto uniform = [&] {
    return plan_uniformly(options, model, layers, shape, network.method, keep);
  };
  if (options.allocation == "uniform") {
    Made made{uniform(), {}, {}, unit};
    made.loss = profile::predicted_loss(measured, made.layers);
    return made;
  }
  check_reach(options, model, layers, profile::least_parameters(measured, options.limits), keep);
  const double whole = static_cast<double>(model.parameters);
  int64_t budget = static_cast<int64_t>(std::floor(keep * whole)) - model.parameters;
  for (const auto& layer : layers) budget += layer.numel();
  profile::ProfilePlan plan = profile::plan_by_profile(measured, budget, options.limits);
  return {std::move(plan.layers), plan.loss, profile::predicted_loss(measured, uniform()), unit};
}

Made make_plan(const PlanOptions& options, const plan::Outline& model, double keep) {
  TORCH_CHECK_VALUE(keep > 0.0 && keep <= 1.0, "[keep] expected a share in (0, 1], got ", keep);
  const std::vector<std::string> alone = left_alone(options);
  Made made = options.profile.empty() ? plan_without_profile(options, model, alone, keep)
                                      : plan_with_profile(options, model, alone, keep);
  for (plan::LayerPlan& p : made.layers) {
    if (!options.method.empty()) p.method = options.method;
    TORCH_CHECK_VALUE(compress::find_method(p.method).any_shape ||
                          p.shape == tn::low_rank_shape(p.layer.rows, p.layer.cols),
                      "[plan] method ", p.method, " expected --shape low-rank");
  }
  return made;
}

/// Operations a second of a float32 product, which a training step comes near to.
double measured_flops(const torch::Device& device) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kSize = 1024;
  const torch::Tensor a = at::ones({kSize, kSize}, torch::TensorOptions().device(device));
  double best = 0.0;
  const auto until = Clock::now() + std::chrono::milliseconds(300);
  do {
    const auto start = Clock::now();
    at::matmul(a, a)[0][0].item<float>();
    const std::chrono::duration<double> seconds = Clock::now() - start;
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds.count());
  } while (Clock::now() < until);
  return best;
}

nlohmann::ordered_json predicted_json(const PlanOptions& options, const plan::Outline& model,
                                      const plan::Footprint& f, const Made& made) {
  nlohmann::ordered_json out = {
      {"parameters", f.parameters},
      {"tensorized_parameters", f.tensorized},
      {"tensorized_before", f.tensorized_before},
      {"bytes_float32", f.bytes(4)},
      {"bytes_float16", f.bytes(2)},
      {"bytes_mixed_int4", f.mixed_bytes()},
      {"kv_cache_bytes", plan::kv_cache_bytes(model.config, options.context, 2)},
      {"kv_cache_context", options.context},
      {"healing_tokens", options.heal_tokens},
      {"healing_flops", f.healing_flops() * options.heal_tokens}};
  if (made.loss) out["loss"] = *made.loss;
  if (made.uniform_loss) out["uniform_loss"] = *made.uniform_loss;
  return out;
}

nlohmann::json recipe(const PlanOptions& options) {
  nlohmann::json made_by = {{"program", "schmidt " SCHMIDT_VERSION},
                            {"floor", options.limits.floor},
                            {"ceiling", options.limits.ceiling},
                            {"protect", options.protect},
                            {"ignore", options.ignore}};
  if (!options.profile.empty()) {
    made_by["allocation"] = options.allocation.empty() ? "profile" : options.allocation;
  } else {
    made_by["allocation"] = "uniform";
    made_by["sites"] = options.sites;
    made_by["shape"] = options.shape;
  }
  if (options.keep) made_by["keep"] = *options.keep;
  if (!options.size.empty()) made_by["size"] = options.size;
  if (!options.preset.empty()) made_by["preset"] = options.preset;
  return made_by;
}

void print(const PlanOptions& options, const plan::Outline& model, const Made& made,
           const plan::Footprint& f, double flops) {
  const auto count = [](int64_t n) { return human_count(static_cast<double>(n)); };
  const auto percent = [](double part, double whole) { return 100.0 * part / whole; };
  const auto whole = static_cast<double>(model.parameters);
  const bool mixed = !options.preset.empty() && plan::find_preset(options.preset).mixed_int4;
  fmt::print(
      "parameters       {} of {}: {:.2f} % of the model, {:.2f} % of the {} tensorized layers\n",
      count(f.parameters), count(model.parameters),
      percent(static_cast<double>(f.parameters), whole),
      percent(static_cast<double>(f.tensorized), static_cast<double>(f.tensorized_before)),
      made.layers.size());
  fmt::print(
      "weights          {} in float32, {} in float16 ({:.1f} % of the original in float32)\n",
      human_bytes(f.bytes(4)), human_bytes(f.bytes(2)), percent(f.bytes(2), 4 * whole));
  if (mixed) {
    fmt::print(
        "mixed            {}: dense block layers in int4 (4.5 bits, a float16 scale for each "
        "32), the rest in float16 ({:.1f} % of the original in float32)\n",
        human_bytes(f.mixed_bytes()), percent(f.mixed_bytes(), 4 * whole));
  }
  const double weights = mixed ? f.mixed_bytes() : f.bytes(2);
  const double cache = plan::kv_cache_bytes(model.config, options.context, 2);
  fmt::print("inference        {}: weights and {} of float16 keys and values at context {}\n",
             human_bytes(weights + cache), human_bytes(cache), options.context);
  if (made.loss) {
    fmt::print("predicted loss   {:.4g} {}, the sum over layers, each changed alone{}\n",
               *made.loss, made.loss_unit,
               made.uniform_loss ? fmt::format(" (uniform: {:.4g})", *made.uniform_loss) : "");
  }
  fmt::print(
      "healing          about {} for {} tokens: {:.3g} operations a token at {:.3g} "
      "TFLOP/s{}, an estimate\n",
      human_seconds(f.healing_flops() * options.heal_tokens / flops),
      human_count(options.heal_tokens), f.healing_flops(), flops * 1e-12,
      options.tflops > 0 ? "" : " (measured on a float32 product)");
  fmt::print("written to {}\n", options.out);
}

void run(const PlanOptions& options) {
  apply_common_options(options.common);
  const int budgets =
      (options.keep ? 1 : 0) + (options.size.empty() ? 0 : 1) + (options.preset.empty() ? 0 : 1);
  TORCH_CHECK_VALUE(budgets == 1, "[plan] expected one of --keep, --size and --preset, got ",
                    budgets);
  std::vector<InputPath> inputs = {{"the model", options.model}};
  if (!options.profile.empty()) inputs.push_back({"the profile", options.profile});
  const std::filesystem::path place = output_file(options.out, options.force, inputs);
  TORCH_CHECK_VALUE(options.allocation != "profile" || !options.profile.empty(),
                    "[plan] --allocation profile expected --profile");
  TORCH_CHECK_VALUE((options.limits.floor == 0.0 && options.limits.ceiling == 1.0) ||
                        (!options.profile.empty() && options.allocation != "uniform"),
                    "[plan] --floor and --ceiling expected a plan by --profile, got a uniform one");
  const plan::Outline model = plan::open_outline(options.model);
  print_notes(model.notes, options.common);
  std::vector<plan::Layer> patterned = model.layers;
  for (const plan::Layer& stacked : plan::share_inputs(model.layers)) {
    patterned.push_back(stacked);
  }
  plan::check_patterns("protect", options.protect, patterned);
  plan::check_patterns("ignore", options.ignore, patterned);
  double target = target_keep(options, model);
  Made made = make_plan(options, model, target);
  plan::Footprint f = plan::footprint(model, made.layers);
  // Pivots are bytes too, and known only once there is a plan.
  for (int i = 0; i < 4 && !options.size.empty(); ++i) {
    const double over = f.bytes(bytes_per_scalar(options)) - parse_size(options.size);
    if (over <= 0) break;
    target -= over / bytes_per_scalar(options) / static_cast<double>(model.parameters);
    made = make_plan(options, model, target);
    f = plan::footprint(model, made.layers);
  }
  const auto predicted = predicted_json(options, model, f, made);
  const double keep = static_cast<double>(f.parameters) / static_cast<double>(model.parameters);
  plan::write_plan(
      place, {made.layers, keep, recipe(options), predicted, stored_dtype(options, model)}, model);

  const double flops =
      options.tflops > 0 ? options.tflops * 1e12 : measured_flops(options.common.torch_device());
  if (options.common.json) {
    nlohmann::ordered_json out = {{"keep", keep}};
    out.update(predicted);
    out["healing_seconds"] = f.healing_flops() * options.heal_tokens / flops;
    out["layers"] = made.layers.size();
    out["out"] = options.out;
    fmt::print("{}\n", io::json_text(out));
  } else {
    print(options, model, made, f, flops);
  }
}

}  // namespace

Run add_plan(CLI::App& verb) {
  auto options = std::make_shared<PlanOptions>();
  verb.add_option("MODEL", options->model,
                  "Hugging Face folder, .gguf file, or a config.json alone")
      ->required();
  verb.add_option("-o,--out", options->out, "The plan: a .json file")->required();
  verb.add_flag("--force", options->force, "Replace the file if it exists");
  verb.add_option(
      "--profile", options->profile,
      "Sensitivity measured by schmidt profile; without it every layer keeps the same share");
  verb.add_option("--keep", options->keep,
                  "Share of the whole model's parameters that stays, (0, 1]");
  verb.add_option(
      "--size", options->size,
      "Instead of --keep: bytes of all weights, 120MB or 1.5GB, at 2 bytes each (4 with --dtype "
      "float32); compress writes that format");
  std::vector<std::string> presets;
  for (const plan::Preset& preset : plan::presets()) presets.emplace_back(preset.name);
  verb.add_option("--preset", options->preset,
                  "Instead of --keep: the budget of a model of the paper")
      ->check(CLI::IsMember(presets));
  verb.add_option("--allocation", options->allocation,
                  "Allocate by the profile, or uniformly as a control")
      ->check(CLI::IsMember({"profile", "uniform"}));
  verb.add_option("--floor", options->limits.floor,
                  "Smallest share of its parameters that a layer keeps")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--ceiling", options->limits.ceiling,
                  "Largest share of its parameters that a layer keeps")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--protect", options->protect,
                  "Layers that stay dense: names, ends of names, L1..L7, patterns")
      ->delimiter(',');
  verb.add_option("--ignore", options->ignore,
                  "More layers that stay dense, \"none\" for nothing (default: L7 without a "
                  "profile and in presets)")
      ->delimiter(',');
  std::vector<std::string> names;
  for (const compress::Method* method : compress::methods()) names.emplace_back(method->name);
  verb.add_option("--method", options->method,
                  "How cores will be found (default: the profile's method, or tt-svd)")
      ->check(CLI::IsMember(names));
  verb.add_option("--sites", options->sites, "Without a profile: sites of each MPO")
      ->capture_default_str();
  verb.add_option("--shape", options->shape,
                  "Without a profile: balanced, or low-rank, (m,1)x(1,n)")
      ->check(CLI::IsMember({"balanced", "low-rank"}))
      ->capture_default_str();
  verb.add_option("--gauge", options->gauge, "Without a profile: fixed or full gauge")
      ->check(CLI::IsMember({"fixed", "full"}))
      ->capture_default_str();
  verb.add_option("--context", options->context, "Tokens for which memory is predicted")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--heal-tokens", options->heal_tokens,
                  "Tokens of healing whose time is estimated")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--tflops", options->tflops,
                  "Speed of the machine that heals (default: measured on this machine)")
      ->check(kPositive);
  add_common_options(verb, options->common);
  return [options, &verb] {
    const bool measured = !options->profile.empty();
    check_options_are_read(
        "plan", given_options(verb),
        {{{"--sites", "--shape", "--gauge"}, !measured, "a plan without --profile"},
         {{"--sites"}, options->shape != "low-rank", "--shape balanced"}});
    run(*options);
  };
}

}  // namespace schmidt::cli
