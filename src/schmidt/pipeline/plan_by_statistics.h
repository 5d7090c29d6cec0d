#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "schmidt/base/progress.h"
#include "schmidt/pipeline/plan_model.h"

namespace schmidt::pipeline {

/// What a plan made by statistics records of its recipe and of them, by their fingerprint.
nlohmann::json made_by(const PlanRecipe& recipe, const std::string& statistics);

/// Throws c10::ValueError where the recipe's budget of time is out of reach on this machine, by
/// measuring every form; needs no statistics.
void check_speedup(const plan::Outline& outline, const PlanRecipe& recipe);

/// As plan_model() of a recipe with statistics: bytes, or the time of a step on this machine, spent
/// on whichever forms are predicted to lose the least.
PlanOutcome plan_by_statistics(const plan::Outline& outline, const PlanRecipe& recipe,
                               const std::filesystem::path& out, bool force,
                               const Reporter& reporter = {});

}  // namespace schmidt::pipeline
