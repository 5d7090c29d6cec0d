#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/base/output_place.h"
#include "schmidt/base/progress.h"
#include "schmidt/compress/compress.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/weights.h"
#include "schmidt/pipeline/compress_recipe.h"

namespace schmidt::pipeline {

/// Where a compression happens, which decides nothing but rounding.
struct CompressRun {
  std::filesystem::path out;  ///< folder of the new checkpoint
  bool force = false;         ///< replace it, and drop unfinished work there
  /// A folder that keeps what calibration has measured; none: OUT.statistics, while it runs.
  std::optional<std::filesystem::path> statistics;
  std::vector<InputPath> also_read = {};  ///< beside the model and its texts; no output lies there
  model::LoadOptions load;                ///< dtype and device that calibration computes in
  model::LoadOptions sampling;            ///< the same of a model that samples its own text
};

struct CompressOutcome {
  compress::CompressResult result;       ///< as compress::compress gives it
  std::optional<double> predicted_loss;  ///< nats a token, where spectra allocated
};

/// Compresses a model by a recipe into a folder: the text, its statistics where a method needs
/// them, the allocation, the layers. All mistakes that can be known are found before anything
/// is computed or written. The ranks of mpirun call it together.
/// Throws c10::ValueError for a recipe that does not fit the model, and as compress::compress.
CompressOutcome compress_model(const io::Checkpoint& model, const CompressRecipe& recipe,
                               const CompressRun& run, const Reporter& reporter);

}  // namespace schmidt::pipeline
