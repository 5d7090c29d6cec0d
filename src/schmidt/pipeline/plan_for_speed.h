#pragma once

#include <filesystem>

#include "schmidt/pipeline/compress_recipe.h"

namespace schmidt::pipeline {

/// Where the plan of a compression for speed lies: "OUT.plan.json". It stays, with the figure of
/// what time is predicted to cost beside it.
std::filesystem::path speed_plan_of(const std::filesystem::path& out);

/// Throws c10::ValueError where the recipe's speedup is out of reach on this machine, for a model
/// that has been `pruned` for it by more than a tenth, or where `file` holds the plan of another
/// recipe and `force` does not replace it.
void check_speedup(const io::Checkpoint& model, const CompressRecipe& recipe,
                   const std::filesystem::path& file, bool force, bool pruned);

/// The same where neurons may go before, by the forms that compete: -> their times, which the first
/// rank measures.
StepTimes check_speedup(const io::Checkpoint& model, const CompressRecipe& recipe,
                        const Competition& forms);

/// All that decides such a plan but statistics, as its file records it.
nlohmann::json asked_of_speed(const CompressRecipe& recipe);

/// The plan that a compression for speed follows, by finished statistics: what lies in `file`,
/// where an earlier run with the same recipe and statistics has left it, since measured times
/// differ from run to run; else a new one, written there. The ranks of mpirun call it together.
/// Throws c10::ValueError where `file` is another plan, and as plan_by_statistics().
plan::PlanFile plan_for_speed(const io::Checkpoint& model, const CompressRecipe& recipe,
                              const std::filesystem::path& statistics,
                              const std::filesystem::path& file, bool force);

}  // namespace schmidt::pipeline
