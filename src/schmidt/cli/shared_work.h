#pragma once

#include "schmidt/base/progress.h"
#include "schmidt/calibrate/workers.h"
#include "schmidt/cli/calibration_text.h"

namespace schmidt::cli {

/// The ranks of mpirun as workers; one alone without it. Their folders are the same, on
/// one machine or a shared disk.
calibrate::Workers ranks_as_workers();

/// calibration_text, drawn by rank 0 alone: sampling from the model need not be repeated.
torch::Tensor shared_calibration_text(const io::Checkpoint& checkpoint,
                                      const CalibrationOptions& options,
                                      const CommonOptions& common, const ProgressFn& progress);

}  // namespace schmidt::cli
