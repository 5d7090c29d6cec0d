#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <torch/types.h>

#include "schmidt/base/progress.h"
#include "schmidt/cli/options.h"
#include "schmidt/io/checkpoint.h"

namespace schmidt::cli {

/// Which text a model is calibrated on.
struct CalibrationOptions {
  std::vector<std::string> files = {"self"};  ///< "self": the model's own, calibration half
  int64_t tokens = 49152;
  int64_t context = 512;  ///< at most; no more than the model's positions
  bool skip_bad = false;
};

void add_calibration_options(CLI::App& verb, CalibrationOptions& options);

/// The text as windows of ids [windows, context], int64: files in equal parts,
/// conversations in the model's chat format and in a seeded order.
torch::Tensor calibration_text(const io::Checkpoint& checkpoint, const CalibrationOptions& options,
                               const CommonOptions& common, const ProgressFn& progress);

}  // namespace schmidt::cli
