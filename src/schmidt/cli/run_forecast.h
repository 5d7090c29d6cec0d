#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/cli/stage_command.h"
#include "schmidt/pipeline/stage_forecast.h"

namespace schmidt::cli {

/// Models that are there, each opened once.
class KnownModels {
 public:
  /// Throws as plan::open_outline.
  const plan::Outline& at(const std::filesystem::path& path);

  /// Tells whether a model is still the same: of its weights and what lies beside them; "" where
  /// it has no weights. Throws as `at`.
  const std::string& identity(const std::filesystem::path& path);

 private:
  std::map<std::filesystem::path, plan::Outline> outlines_;
  std::map<std::filesystem::path, std::string> identities_;
};

/// What a stage will make and take, as far as it is known before it runs.
struct StageForecast {
  std::optional<double> bytes;    ///< of the weights that it writes
  std::optional<double> memory;   ///< while it runs: models that are in memory whole
  std::optional<double> seconds;  ///< by its products and their measured speed
};

/// Of all stages of a run; `finished` says whose result is there. A plan that can be made already
/// is made, in a temporary folder, so that what it leads to is known. Throws c10::ValueError,
/// naming the stage's place in the recipe, for what no model can be made of; FailedStage.
std::vector<StageForecast> forecast_run(const std::filesystem::path& recipe,
                                        const std::vector<StageCommand>& stages,
                                        const std::vector<bool>& finished, KnownModels& models);

}  // namespace schmidt::cli
