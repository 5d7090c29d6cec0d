#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/pipeline/plan_recipe.h"
#include "schmidt/plan/allocate.h"
#include "schmidt/plan/footprint.h"
#include "schmidt/plan/outline.h"
#include "schmidt/plan/plan_file.h"
#include "schmidt/plan/uniform.h"
#include "schmidt/profile/plan_by_profile.h"

namespace schmidt::pipeline {

/// Predicted loss against bytes of all files, or nanoseconds of a step, for one way to spend them.
struct Frontier {
  std::string name;
  std::vector<plan::Price> points;
};

inline constexpr int kFrontierPoints = 48;

struct PlanOutcome {
  plan::PlanFile file;  ///< as it was written
  plan::Footprint footprint;
  std::optional<double> loss;          ///< predicted by the profile
  std::optional<double> uniform_loss;  ///< the same of the control at this budget
  std::string_view loss_unit = {};
  /// Of all weights' files. Where bytes were spent by statistics at most these; otherwise exactly,
  /// unless `compress` finds a network of 16 bits nearer in plain cores, or scales of a weight
  /// outside of float16.
  double bytes = 0.0;
  std::vector<Frontier> frontiers = {};  ///< of all forms, and of some kinds alone, in that case
  std::filesystem::path figure = {};     ///< of these
  std::optional<double> speedup = {};  ///< predicted for a budget of time, over the model as it is
};

/// The plan that a recipe without statistics makes; writes nothing. Throws as `plan_model`.
PlanOutcome predict_plan(const plan::Outline& model, const PlanRecipe& recipe);

/// Plans the compression of a model and writes the plan to `out`, links followed; where statistics
/// decide, a figure of the frontiers beside it.
/// Throws c10::ValueError for a recipe that does not fit the model or a budget out of reach,
/// FormatError for a profile that cannot be read, SystemError.
PlanOutcome plan_model(const plan::Outline& model, const PlanRecipe& recipe,
                       const std::filesystem::path& out, bool force);

}  // namespace schmidt::pipeline
