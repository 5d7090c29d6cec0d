#pragma once

#include "schmidt/cli/options.h"
#include "schmidt/pipeline/compress_model.h"

namespace schmidt::cli {

/// Compresses with the progress shown, in the dtypes and on the device that the options name.
pipeline::CompressOutcome compress_shown(const io::Checkpoint& model,
                                         const pipeline::CompressRecipe& recipe,
                                         pipeline::CompressRun run, const CommonOptions& options);

}  // namespace schmidt::cli
