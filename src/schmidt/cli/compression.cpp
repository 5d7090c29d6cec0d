#include "schmidt/cli/compression.h"

#include "schmidt/cli/console.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::cli {

pipeline::CompressOutcome compress_shown(const io::Checkpoint& model,
                                         const pipeline::CompressRecipe& recipe,
                                         pipeline::CompressRun run, const CommonOptions& options) {
  run.load = {options.calibration_dtype(), options.torch_device()};
  run.sampling = {options.torch_dtype(torch::kFloat32), options.torch_device()};
  ProgressLine progress(options.quiet || parallel::rank() != 0);
  pipeline::CompressOutcome outcome =
      pipeline::compress_model(model, recipe, run, progress.reporter());
  progress.clear();
  return outcome;
}

}  // namespace schmidt::cli
