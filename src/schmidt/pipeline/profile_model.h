#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/base/progress.h"
#include "schmidt/eval/tasks.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/weights.h"
#include "schmidt/pipeline/calibration_text.h"
#include "schmidt/profile/sensitivity.h"

namespace schmidt::pipeline {

/// All that decides what a profile measures: which layers, changed how, by which loss on what.
struct ProfileRecipe {
  profile::ProfileOptions measure;  ///< without statistics and questions, which follow from it
  std::vector<int64_t> blocks;      ///< whose layers are measured; empty: all
  std::vector<std::string> layers;  ///< patterns of them; empty: all
  bool share_inputs = false;        ///< q, k, v and gate, up each as one layer
  CalibrationText text{.tokens = 2048};
  std::string data;  ///< folder of the benchmarks, where the metric is one
  eval::TaskOptions questions;
};

/// Where a profile is measured, which decides nothing but rounding.
struct ProfileRun {
  std::filesystem::path out;  ///< a .json file; figures go beside it as .svg and .html
  bool force = false;         ///< replace them, and drop unfinished work there
  /// A folder that keeps what calibration has measured; none: OUT.statistics, while it runs.
  std::optional<std::filesystem::path> statistics;
  model::LoadOptions load;         ///< of the model that is measured
  model::LoadOptions calibration;  ///< of the pass that collects statistics
};

struct ProfileOutcome {
  profile::Profile profile;
  std::vector<std::filesystem::path> files;  ///< that were written
};

/// Measures a model's profile into a file, with its figures. All mistakes that can be known are
/// found before anything is computed or written; a killed run goes on where it stopped. The
/// ranks of mpirun call it together and share the points; rank 0 writes.
/// Throws c10::ValueError for a recipe that does not fit the model, and as
/// profile::measure_profile.
ProfileOutcome profile_model(const io::Checkpoint& model, const ProfileRecipe& recipe,
                             const ProfileRun& run, const Reporter& reporter);

}  // namespace schmidt::pipeline
