#include "schmidt/pipeline/plan_for_speed.h"

#include <optional>
#include <string>

#include <c10/util/Exception.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/output_place.h"
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/plan_by_statistics.h"
#include "schmidt/pipeline/pruning.h"
#include "schmidt/pipeline/time_plan.h"

namespace schmidt::pipeline {
namespace {

/// Where hours have gone into it, a speedup that by now is this near to the fastest is no mistake.
constexpr double kReach = 1.1;

PlanRecipe plan_recipe(const CompressRecipe& recipe) {
  PlanRecipe asked;
  asked.forms = recipe.forms;
  asked.speedup = recipe.speedup;
  asked.workload = recipe.workload;
  asked.method = recipe.method;
  asked.ignore = recipe.selection.ignore;
  asked.dtype = recipe.dtype == torch::kFloat32 ? "float32" : "bfloat16";
  return asked;
}

/// Whether the plan in a file was made so, by statistics of that fingerprint; none: by any.
bool is_made_by(const std::filesystem::path& file, const io::Checkpoint& model,
                const PlanRecipe& asked, const std::optional<std::string>& statistics) {
  const nlohmann::json found = plan::read_plan(file, model).made_by;
  return found == made_by(asked, statistics.value_or(found.value("statistics", std::string())));
}

}  // namespace

std::filesystem::path speed_plan_of(const std::filesystem::path& out) {
  return with_ending(out, ".plan.json");
}

void check_speedup(const io::Checkpoint& model, const CompressRecipe& recipe,
                   const std::filesystem::path& file, bool force, bool pruned) {
  if (parallel::rank() != 0) return;
  PlanRecipe asked = plan_recipe(recipe);
  if (pruned) asked.reach = kReach;
  if (force || !path_exists(file)) {
    check_speedup(plan::outline(model), asked);
    return;
  }
  TORCH_CHECK_VALUE(is_made_by(file, model, asked, std::nullopt), "[output] ", file.string(),
                    " is another plan; expected none, or force");
}

StepTimes check_speedup(const io::Checkpoint& model, const CompressRecipe& recipe,
                        const Competition& forms) {
  check_speedup(*recipe.speedup, model::parse_config(model.config(), model.path()));
  if (parallel::rank() != 0) return {};
  StepTimes times = measure_times(model, forms, recipe.workload);
  check_reached(*recipe.speedup, fastest_pruned(forms, times));
  return times;
}

nlohmann::json asked_of_speed(const CompressRecipe& recipe) {
  return made_by(plan_recipe(recipe), {});
}

plan::PlanFile plan_for_speed(const io::Checkpoint& model, const CompressRecipe& recipe,
                              const std::filesystem::path& statistics,
                              const std::filesystem::path& file, bool force) {
  if (parallel::rank() == 0) {
    PlanRecipe asked = plan_recipe(recipe);
    asked.statistics = statistics;
    asked.reach = kReach;
    const bool goes_on = !force && path_exists(file) &&
                         is_made_by(file, model, asked, calibrate::fingerprint_in(statistics));
    if (!goes_on) plan_by_statistics(plan::outline(model), asked, file, force);
  }
  parallel::barrier();
  return plan::read_plan(file, model);
}

}  // namespace schmidt::pipeline
