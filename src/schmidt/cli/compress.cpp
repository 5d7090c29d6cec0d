#include "schmidt/compress/compress.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/console.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"

namespace schmidt::cli {
namespace {

struct CompressVerbOptions {
  CommonOptions common;
  std::string model;
  std::string out;
  bool force = false;
  std::optional<double> keep;
  std::optional<int64_t> bond;
  int64_t sites = 2;
  std::string shape = "balanced";
  std::vector<int64_t> out_dims, in_dims;
  std::string method = "tt-svd";
  double tolerance = 0.0;
  std::vector<std::string> layers;
  std::vector<std::string> ignore = {"L7"};
};

compress::ShapeChoice shape_choice(const CompressVerbOptions& options) {
  compress::ShapeChoice choice;
  choice.sites = options.sites;
  choice.low_rank = options.shape == "low-rank";
  TORCH_CHECK_VALUE(options.out_dims.empty() == options.in_dims.empty(),
                    "[sites] expected --out-dims and --in-dims together, got one of them");
  if (!options.out_dims.empty()) choice.by_hand = tn::SiteShape{options.out_dims, options.in_dims};
  return choice;
}

nlohmann::json recipe(const CompressVerbOptions& options) {
  nlohmann::json made_by = {{"program", "schmidt " SCHMIDT_VERSION},
                            {"method", options.method},
                            {"shape", options.shape},
                            {"sites", options.sites},
                            {"tolerance", options.tolerance},
                            {"layers", options.layers},
                            {"ignore", options.ignore}};
  if (options.keep) made_by["keep"] = *options.keep;
  if (options.bond) made_by["bond"] = *options.bond;
  if (!options.out_dims.empty()) {
    made_by["out_dims"] = options.out_dims;
    made_by["in_dims"] = options.in_dims;
  }
  return made_by;
}

void print(const CompressVerbOptions& options, const compress::CompressResult& result) {
  if (options.common.json) {
    nlohmann::ordered_json out = sizes_json(result.summary);
    out["out"] = options.out;
    out["resumed"] = result.resumed;
    for (const auto& r : result.layers) {
      out["layers"].push_back({{"name", r.plan.layer.name},
                               {"out_dims", r.plan.shape.out_dims},
                               {"in_dims", r.plan.shape.in_dims},
                               {"bonds", r.bonds},
                               {"relative_error", r.relative_error}});
    }
    fmt::print("{}\n", out.dump());
    return;
  }
  Table table;
  table.header = {"layer", "sites (out; in)", "bonds", "kept %", "weight error"};
  for (const auto& r : result.layers) {
    table.rows.push_back(
        {r.plan.layer.name,
         fmt::format("{}; {}", fmt::join(r.plan.shape.out_dims, " x "),
                     fmt::join(r.plan.shape.in_dims, " x ")),
         fmt::format("{}", fmt::join(r.bonds, " ")),
         fmt::format("{:.1f}", 100.0 *
                                   static_cast<double>(tn::parameter_count(r.plan.shape, r.bonds)) /
                                   static_cast<double>(r.plan.layer.numel())),
         fmt::format("{:.4f}", r.relative_error)});
  }
  if (!options.common.quiet) fmt::print("{}\n", table.aligned());
  fmt::print("{}", sizes_text(result.summary));
  fmt::print("written to {}\n", options.out);
}

void run(const CompressVerbOptions& options) {
  apply_common_options(options.common);
  TORCH_CHECK_VALUE(options.keep.has_value() != options.bond.has_value(),
                    "[compress] expected either --keep or --bond (with --sites), got ",
                    options.keep ? "both" : "neither");
  const io::Checkpoint checkpoint = io::Checkpoint::open(options.model);
  const auto layers =
      compress::select_layers(compress::dense_layers(checkpoint), {options.layers, options.ignore});
  const compress::ShapeChoice shape = shape_choice(options);
  const auto plan = options.bond ? compress::plan_bond(layers, shape, *options.bond)
                                 : compress::plan_keep(layers, shape, *options.keep,
                                                       compress::summarize(checkpoint).parameters);
  compress::CompressOptions compress_options;
  compress_options.tolerance = options.tolerance;
  if (!options.common.dtype.empty()) {
    compress_options.dtype = options.common.torch_dtype(torch::kFloat32);
  }
  compress_options.force = options.force;
  compress_options.made_by = recipe(options);

  ProgressLine progress(options.common.quiet);
  const auto result =
      compress::compress(checkpoint, plan, options.out, compress_options, progress.callback());
  progress.clear();
  print(options, result);
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
  verb.add_option("--sites", options->sites, "Sites of each MPO")->capture_default_str();
  verb.add_option("--shape", options->shape, "How indices are split: balanced, or (m,1)x(1,n)")
      ->check(CLI::IsMember({"balanced", "low-rank"}))
      ->capture_default_str();
  verb.add_option("--out-dims", options->out_dims, "Sites by hand: row sub-dimensions, a,b,..")
      ->delimiter(',');
  verb.add_option("--in-dims", options->in_dims, "Sites by hand: column sub-dimensions, a,b,..")
      ->delimiter(',');
  verb.add_option("--method", options->method, "How the cores are found")
      ->check(CLI::IsMember({"tt-svd"}))
      ->capture_default_str();
  verb.add_option("--tolerance", options->tolerance,
                  "Relative weight error at which a smaller bond is taken")
      ->check(CLI::Range(0.0, 1.0));
  verb.add_option("--layers", options->layers,
                  "Layers to take: names, ends of names, L1..L7, patterns, re:EXPRESSION")
      ->delimiter(',');
  verb.add_option("--ignore", options->ignore, "Layers to leave alone (\"none\": nothing)")
      ->delimiter(',')
      ->capture_default_str();
  add_common_options(verb, options->common);
  return [options] { run(*options); };
}

}  // namespace schmidt::cli
