#pragma once

#include "schmidt/cli/options.h"
#include "schmidt/pipeline/compress_model.h"

namespace schmidt::cli {

/// Compresses in the dtypes and on the device that the options name.
pipeline::CompressOutcome compress_as_asked(const io::Checkpoint& model,
                                            const pipeline::CompressRecipe& recipe,
                                            pipeline::CompressRun run, const CommonOptions& options,
                                            const Reporter& reporter);

}  // namespace schmidt::cli
