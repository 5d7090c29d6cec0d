#pragma once

#include <filesystem>
#include <optional>

#include "schmidt/base/progress.h"
#include "schmidt/pipeline/compress_recipe.h"

namespace schmidt::pipeline {

/// Where the plan of a compression for speed lies: "OUT.plan.json". It stays, with the figure of
/// what time is predicted to cost beside it.
std::filesystem::path speed_plan_of(const std::filesystem::path& out);

/// Throws c10::ValueError where the recipe's speedup is out of reach on this machine, or where
/// `file` holds the plan of another recipe and `force` does not replace it.
void check_speedup(const io::Checkpoint& model, const CompressRecipe& recipe,
                   const std::filesystem::path& file, bool force);

/// The plan in `file` that an earlier run with the same recipe has left, by whichever statistics.
std::optional<plan::PlanFile> planned_for_speed(const io::Checkpoint& model,
                                                const CompressRecipe& recipe,
                                                const std::filesystem::path& file, bool force);

/// The plan that a compression for speed follows, by finished statistics: what lies in `file`,
/// where an earlier run with the same recipe and statistics has left it, since measured times
/// differ from run to run; else a new one, written there. A speedup that by now is out of reach by
/// no more than a tenth becomes the one that can be had, which is told. The ranks of mpirun call it
/// together. Throws c10::ValueError where `file` is another plan, and as plan_by_statistics().
plan::PlanFile plan_for_speed(const io::Checkpoint& model, const CompressRecipe& recipe,
                              const std::filesystem::path& statistics,
                              const std::filesystem::path& file, bool force,
                              const Reporter& reporter);

}  // namespace schmidt::pipeline
