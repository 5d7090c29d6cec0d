#pragma once

#include <filesystem>

#include "schmidt/pipeline/plan_model.h"

namespace schmidt::pipeline {

/// As plan_model() of a recipe with statistics: bytes, or the time of a step on this machine, spent
/// on whichever forms are predicted to lose the least.
PlanOutcome plan_by_statistics(const plan::Outline& outline, const PlanRecipe& recipe,
                               const std::filesystem::path& out, bool force);

}  // namespace schmidt::pipeline
