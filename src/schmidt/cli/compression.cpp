#include "schmidt/cli/compression.h"

namespace schmidt::cli {

pipeline::CompressOutcome compress_as_asked(const io::Checkpoint& model,
                                            const pipeline::CompressRecipe& recipe,
                                            pipeline::CompressRun run, const CommonOptions& options,
                                            const Reporter& reporter) {
  run.load = {options.calibration_dtype(), options.torch_device()};
  run.sampling = {options.torch_dtype(torch::kFloat32), options.torch_device()};
  return pipeline::compress_model(model, recipe, run, reporter);
}

}  // namespace schmidt::cli
