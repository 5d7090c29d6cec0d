#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "schmidt/cli/calibration_options.h"
#include "schmidt/cli/compression.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/quant/integer_format.h"

namespace schmidt::cli {
namespace {

struct QuantizeOptions {
  CommonOptions common;
  std::string model, out, statistics, scheme = "asymmetric";
  bool force = false;
  int64_t bits = 4, embedding_bits = 8;
  pipeline::QuantizeRecipe recipe;
  std::set<std::string> given;  // options on the command line
};

std::vector<int> integer_widths(std::vector<int> others = {}) {
  others.insert(others.end(), std::begin(quant::kIntegerWidths), std::end(quant::kIntegerWidths));
  return others;
}

pipeline::QuantizeRecipe recipe_of(const QuantizeOptions& options) {
  pipeline::QuantizeRecipe recipe = options.recipe;
  recipe.bits = static_cast<int>(options.bits);
  recipe.symmetric = options.scheme == "symmetric";
  recipe.nf4 = options.scheme == "nf4";
  if (options.embedding_bits != 16)
    recipe.vocabulary_bits = static_cast<int>(options.embedding_bits);
  recipe.text.seed = options.common.seed;
  return recipe;
}

nlohmann::ordered_json as_json(const QuantizeOptions& options,
                               const compress::CompressResult& result) {
  nlohmann::ordered_json out = sizes_json(result.summary);
  out["bits_per_weight"] = bits_per_weight(result.summary);
  out["out"] = options.out;
  out["resumed"] = result.resumed;
  for (const compress::LayerResult& r : result.layers) {
    nlohmann::ordered_json& layer = out["layers"].emplace_back();
    layer["name"] = r.plan.layer.name;
    if (r.plan.nf4) layer["nf4"] = true;
    for (const auto& format : {r.plan.integers, r.plan.factor_integers}) {
      if (format) layer.update(model::to_json(*format));
    }
    if (r.plan.factor_integers) layer["rank"] = r.plan.rank();
    layer["method"] = r.method;
    layer["relative_error"] = r.relative_error;
  }
  return out;
}

void print(const QuantizeOptions& options, const compress::CompressResult& result) {
  if (options.common.json) {
    fmt::print("{}\n", io::json_text(as_json(options, result)));
    return;
  }
  fmt::print("{}{}written to {}\n", sizes_text(result.summary), bits_text(result.summary),
             options.out);
}

void check_options(const QuantizeOptions& options, const pipeline::CompressRecipe& recipe) {
  const auto methods = methods_of(recipe);
  const pipeline::Needs needs = pipeline::needs_of(methods);
  const bool learns = std::ranges::any_of(
      methods, [](const auto* m) { return m->reads(compress::MethodSetting::kSteps); });
  check_options_are_read(
      "quantize", options.given,
      {{{"--steps"}, learns, "--method learned"},
       {{"--calibration", "--calibration-tokens", "--calibration-context", "--skip-bad"},
        needs.inputs,
        "--method searched, gptq, yaqa and learned"},
       {{"--statistics"}, needs.gradient, "--method gptq, yaqa and learned"}});
}

compress::CompressResult quantize(const QuantizeOptions& options, const NoteFn& note,
                                  const Reporter& reporter) {
  apply_common_options(options.common);
  const io::Checkpoint checkpoint = open_checkpoint(options.model, note);
  const pipeline::QuantizeRecipe asked = recipe_of(options);
  const pipeline::CompressRecipe recipe = pipeline::compress_recipe(asked, checkpoint);
  for (const std::string& text : pipeline::quantize_notes(asked, checkpoint)) {
    if (note) note(text);
  }
  check_options(options, recipe);
  pipeline::CompressRun run{.out = options.out, .force = options.force};
  if (!options.statistics.empty()) run.statistics = options.statistics;
  return compress_as_asked(checkpoint, recipe, run, options.common, reporter).result;
}

void run(const QuantizeOptions& options) {
  ProgressLine progress(options.common.quiet || parallel::rank() != 0);
  const auto result = quantize(options, printed_notes(options.common), progress.reporter());
  progress.clear();
  if (parallel::rank() == 0) print(options, result);
}

nlohmann::ordered_json call(const QuantizeOptions& options, const Caller& caller) {
  return as_json(options, quantize(options, caller.reporter.note, caller.reporter));
}

}  // namespace

Action add_quantize(CLI::App& verb) {
  auto options = std::make_shared<QuantizeOptions>();
  pipeline::QuantizeRecipe& recipe = options->recipe;
  add_model_argument(verb, options->model, ", compressed or not");
  verb.add_option("-o,--out", options->out, "Folder of the new checkpoint")
      ->type_name(kFolderValue)
      ->required();
  verb.add_flag("--force", options->force, "Replace the checkpoint that schmidt wrote there");
  verb.add_option("--bits", options->bits,
                  fmt::format("Bits of a weight: {}", quant::kIntegerWidthsText))
      ->check(CLI::IsMember(integer_widths()))
      ->required();
  verb.add_option("--group", recipe.group, "Weights of a row that share a scale (0: the whole row)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--scheme", options->scheme,
                  "With zero points, symmetric about zero without, or NF4 of bitsandbytes (4 bits)")
      ->check(CLI::IsMember({"asymmetric", "symmetric", "nf4"}))
      ->capture_default_str();
  verb.add_option("--embedding-bits", options->embedding_bits,
                  "Bits of embedding and output layer (16: as they are)")
      ->check(CLI::IsMember(integer_widths({16})))
      ->capture_default_str();
  verb.add_option("--method", recipe.method,
                  "How weights are rounded (default: nearest with 8 bits and NF4, else learned)")
      ->check(CLI::IsMember(method_names(true)));
  verb.add_option("--steps", recipe.fit.steps, "learned: steps of each block")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--layers", recipe.selection.include,
                  "Layers to take: dense (the default: all that are), all (low ranks of compress "
                  "too), names, ends of names, L1..L7, patterns, re:EXPRESSION")
      ->delimiter(',');
  add_calibration_options(verb, recipe.text);
  verb.add_option("--statistics", options->statistics,
                  "Folder in which the statistics of calibration are kept for another run")
      ->type_name(kFolderValue);
  add_common_options(verb, options->common);
  return {[options, &verb] { options->given = given_options(verb); }, [options] { run(*options); },
          [options](const Caller& caller) { return call(*options, caller); }};
}

}  // namespace schmidt::cli
