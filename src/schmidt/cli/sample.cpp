#include <fmt/format.h>

#include "schmidt/base/kept_memory.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/sample_text.h"

namespace schmidt::cli {
namespace {

struct SampleOptions {
  CommonOptions common;
  std::string model, out;
  std::string tokens = "64k";
  eval::SelfTextOptions text;
  bool held_out = false, force = false;
};

void run(const SampleOptions& options) {
  TORCH_CHECK_VALUE(parallel::size() == 1, "[sample] expected one process, got ", parallel::size(),
                    " ranks of mpirun");
  keep_freed_memory();
  apply_common_options(options.common);
  eval::SelfTextOptions text = options.text;
  text.tokens = parse_token_count(options.tokens);
  text.seed = options.common.seed;
  text.half = options.held_out ? eval::SelfHalf::kHeldOut : eval::SelfHalf::kCalibration;
  const io::Checkpoint checkpoint = open_checkpoint(options.model, options.common);
  ProgressLine progress(options.common.quiet);
  const pipeline::SampledText sampled = pipeline::sample_text(
      checkpoint, text,
      {options.common.torch_dtype(torch::kFloat32), options.common.torch_device()}, options.out,
      options.force, progress.reporter());
  progress.clear();
  if (options.common.json) {
    fmt::print("{}\n", io::json_text(nlohmann::ordered_json{{"documents", sampled.documents},
                                                            {"tokens", sampled.tokens},
                                                            {"out", options.out}}));
    return;
  }
  fmt::print("{} documents of {} tokens, written to {}\n", sampled.documents, text.length,
             options.out);
}

}  // namespace

Action add_sample(CLI::App& verb) {
  auto options = std::make_shared<SampleOptions>();
  add_model_argument(verb, options->model);
  verb.add_option("-o,--out", options->out, "A .jsonl file to write")
      ->type_name(kFileValue)
      ->required();
  verb.add_option("--tokens", options->tokens, "Tokens to draw, at least: 64000, 64k, 1M")
      ->capture_default_str();
  verb.add_option("--length", options->text.length, "Tokens of a document")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  verb.add_flag("--held-out", options->held_out,
                "The half that nothing is calibrated on, to evaluate with");
  verb.add_flag("--force", options->force,
                "Replace a file that schmidt wrote, and drop unfinished work there");
  add_common_options(verb, options->common);
  return [options] { run(*options); };
}

}  // namespace schmidt::cli
