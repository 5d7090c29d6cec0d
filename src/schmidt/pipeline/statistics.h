#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/base/progress.h"
#include "schmidt/calibrate/statistics.h"
#include "schmidt/calibrate/workers.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/weights.h"

namespace schmidt::pipeline {

/// The ranks of mpirun as workers; one alone without it. Their folders are the same, on
/// one machine or a shared disk.
calibrate::Workers ranks_as_workers();

/// Statistics of a calibration text that are measured into a folder: one that stays, for other
/// runs too and so of all layers of the model, or a temporary one that is removed when the work is
/// done.
class KeptStatistics {
 public:
  /// Throws as calibrate::Statistics::collect.
  KeptStatistics(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                 const torch::Tensor& windows, const model::LoadOptions& load,
                 const std::filesystem::path& folder, bool temporary,
                 const calibrate::StatisticsOptions& options, const Reporter& reporter);

  /// Finished ones as they are. Throws as calibrate::Statistics::open.
  KeptStatistics(const io::Checkpoint& model, const std::filesystem::path& folder)
      : statistics_(calibrate::Statistics::open(folder, model)) {}

  const calibrate::Statistics& statistics() const { return *statistics_; }

  /// Removes a temporary folder; by the first of the workers. Throws SystemError.
  void done() const;

 private:
  std::optional<calibrate::Statistics> statistics_;
  std::optional<std::filesystem::path> temporary_;
};

}  // namespace schmidt::pipeline
