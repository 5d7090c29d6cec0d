#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/base/progress.h"
#include "schmidt/compress/summary.h"
#include "schmidt/compress/uniform.h"

namespace schmidt::compress {

struct CompressOptions {
  double tolerance = 0.0;  ///< relative Frobenius error each layer may have, in [0, 1)
  std::optional<torch::ScalarType> dtype;  ///< of everything written; none: as it was read
  bool force = false;                      ///< replace `out`, and drop unfinished work there
  nlohmann::json made_by;                  ///< goes into compression_config: the recipe
};

struct LayerResult {
  LayerPlan plan;
  std::vector<int64_t> bonds;   ///< the ones reached
  double relative_error = 0.0;  ///< ||W - W'||_F / ||W||_F; says nothing of perplexity
};

struct CompressResult {
  std::vector<LayerResult> layers;
  ModelSummary summary;  ///< of the new checkpoint
  int64_t resumed = 0;   ///< layers that an earlier, interrupted run had finished
};

/// Writes a checkpoint folder in which every planned layer is an MPO by TT-SVD and
/// everything else is as it was. One weight is in memory at a time.
///
/// Work goes to `out`.partial: each finished layer is a file there, so a killed run
/// that is started again with the same model and plan goes on where it stopped.
/// Throws c10::ValueError if `out` exists (and not `force`), if a weight holds NaN
/// or infinity, or if the partial folder belongs to other work; SystemError from
/// the disk. On an error `out` is untouched and the partial folder is kept.
CompressResult compress(const io::Checkpoint& checkpoint, const std::vector<LayerPlan>& plan,
                        const std::filesystem::path& out, const CompressOptions& options,
                        const ProgressFn& progress = {});

}  // namespace schmidt::compress
