#include <set>

#include <fmt/format.h>

#include "schmidt/base/named.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/convert/gguf_types.h"
#include "schmidt/io/json.h"
#include "schmidt/pipeline/export_model.h"

namespace schmidt::cli {
namespace {

struct TargetName {
  std::string_view name;
  pipeline::ExportTarget target;
};

constexpr TargetName kTargets[] = {
    {"transformers", pipeline::ExportTarget::kTransformers},
    {"dense", pipeline::ExportTarget::kDense},
    {"gguf", pipeline::ExportTarget::kGguf},
    {"peft", pipeline::ExportTarget::kPeft},
};

struct ExportOptions {
  CommonOptions common;
  std::string model, to, type;
  bool rotate = false;
  pipeline::ExportRun run;
  std::set<std::string> given;  // options on the command line
};

pipeline::ExportRecipe recipe_of(const ExportOptions& options) {
  pipeline::ExportRecipe recipe;
  recipe.target = find_named(kTargets, options.to, "--to").target;
  if (!options.common.dtype.empty()) recipe.dtype = options.common.torch_dtype(torch::kFloat32);
  if (options.rotate) recipe.rotation = options.common.seed;
  if (!options.type.empty()) recipe.type = &convert::written_gguf_type(options.type);
  check_options_are_read(
      "export", options.given,
      {{{"--dtype"},
        recipe.target == pipeline::ExportTarget::kDense ||
            recipe.target == pipeline::ExportTarget::kPeft,
        "--to dense and --to peft"},
       {{"--rotate"}, recipe.target == pipeline::ExportTarget::kDense, "--to dense"},
       {{"--type"}, recipe.target == pipeline::ExportTarget::kGguf, "--to gguf"}});
  return recipe;
}

void print(const ExportOptions& options, const pipeline::ExportResult& result) {
  if (options.common.json) {
    nlohmann::ordered_json out;
    out["to"] = options.to;
    out["parameters"] = result.parameters;
    out["bytes"] = result.bytes;
    for (const auto& file : result.files) out["files"].push_back(file.string());
    out["out"] = options.run.out.string();
    fmt::print("{}\n", io::json_text(out));
    return;
  }
  fmt::print("{} parameters in {}, written to {}\n",
             human_count(static_cast<double>(result.parameters)),
             human_bytes(static_cast<double>(result.bytes)), options.run.out.string());
}

void run(const ExportOptions& options) {
  apply_common_options(options.common);
  const pipeline::ExportRecipe recipe = recipe_of(options);
  const io::Checkpoint checkpoint = open_checkpoint(options.model, options.common);
  ProgressLine progress(options.common.quiet);
  const pipeline::ExportResult result =
      pipeline::export_model(checkpoint, recipe, options.run, progress.reporter());
  progress.clear();
  print(options, result);
}

}  // namespace

Action add_export(CLI::App& verb) {
  auto options = std::make_shared<ExportOptions>();
  std::vector<std::string> targets;
  for (const TargetName& target : kTargets) targets.emplace_back(target.name);
  add_model_argument(verb, options->model, ", compressed or not");
  verb.add_option(
          "--to", options->to,
          "transformers: a Hugging Face folder, its numbers unchanged; dense: the same with "
          "every layer multiplied out, for any program that knows the architecture; gguf: a file "
          "for "
          "llama.cpp, or a base and its adapter where layers have low ranks beside weights of full "
          "size; peft: the same for peft")
      ->check(CLI::IsMember(targets))
      ->required();
  verb.add_option("-o,--out", options->run.out, "Folder to write, or the file of --to gguf")
      ->type_name(kPathValue)
      ->required();
  verb.add_option("--type", options->type,
                  "What the matrices of a GGUF file are in (default: what they are in)")
      ->check(CLI::IsMember(convert::written_gguf_types(), CLI::ignore_case));
  verb.add_flag(
      "--rotate", options->rotate,
      "Turn the residual stream and the values of heads by random orthogonal matrices (of "
      "--seed) that are multiplied into the weights: outputs stay, outliers are spread");
  verb.add_flag("--force", options->run.force, "Replace what schmidt wrote there");
  add_common_options(verb, options->common);
  return {[options, &verb] {
            options->given = given_options(verb);
            recipe_of(*options);
          },
          [options] { run(*options); }};
}

}  // namespace schmidt::cli
