#include "schmidt/pipeline/plan_for_speed.h"

#include <optional>
#include <string>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/output_place.h"
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/plan_by_statistics.h"

namespace schmidt::pipeline {
namespace {

/// Where hours have gone into it, a speedup that by now is this near to the fastest is no mistake.
constexpr double kReach = 1.1;

PlanRecipe plan_recipe(const CompressRecipe& recipe) {
  PlanRecipe asked;
  asked.forms = recipe.forms;
  asked.neurons = recipe.mlp == MlpForm::kNeurons;
  asked.speedup = recipe.speedup;
  asked.workload = recipe.workload;
  asked.method = recipe.method;
  asked.ignore = recipe.selection.ignore;
  asked.dtype = recipe.dtype == torch::kFloat32 ? "float32" : "bfloat16";
  return asked;
}

/// The plan in a file where it was made so, by statistics of that fingerprint; none: by any.
std::optional<plan::PlanFile> plan_made_by(const PlanRecipe& asked,
                                           const std::optional<std::string>& statistics,
                                           const std::filesystem::path& file,
                                           const io::Checkpoint& model) {
  plan::PlanFile found = plan::read_plan(file, model);
  const auto of = statistics.value_or(found.made_by.value("statistics", std::string()));
  if (found.made_by != made_by(asked, of)) return std::nullopt;
  return found;
}

}  // namespace

std::filesystem::path speed_plan_of(const std::filesystem::path& out) {
  return with_ending(out, ".plan.json");
}

void check_speedup(const io::Checkpoint& model, const CompressRecipe& recipe,
                   const std::filesystem::path& file, bool force) {
  if (parallel::rank() != 0) return;
  if (force || !path_exists(file)) {
    check_speedup(plan::outline(model), plan_recipe(recipe));
    return;
  }
  TORCH_CHECK_VALUE(planned_for_speed(model, recipe, file, force), "[output] ", file.string(),
                    " is another plan; expected none, or force");
}

std::optional<plan::PlanFile> planned_for_speed(const io::Checkpoint& model,
                                                const CompressRecipe& recipe,
                                                const std::filesystem::path& file, bool force) {
  if (force || !path_exists(file)) return std::nullopt;
  return plan_made_by(plan_recipe(recipe), std::nullopt, file, model);
}

plan::PlanFile plan_for_speed(const io::Checkpoint& model, const CompressRecipe& recipe,
                              const std::filesystem::path& statistics,
                              const std::filesystem::path& file, bool force,
                              const Reporter& reporter) {
  if (parallel::rank() == 0) {
    PlanRecipe asked = plan_recipe(recipe);
    asked.statistics = statistics;
    asked.reach = kReach;
    const bool goes_on = !force && path_exists(file) &&
                         plan_made_by(asked, calibrate::fingerprint_in(statistics), file, model);
    if (!goes_on) {
      const PlanOutcome planned =
          plan_by_statistics(plan::outline(model), asked, file, force, reporter);
      if (*planned.speedup < *recipe.speedup) {
        reporter.tell(
            fmt::format("a speedup of {:.3g} is out of reach by now; the plan is of {:.3g}",
                        *recipe.speedup, *planned.speedup));
      }
    }
  }
  parallel::barrier();
  return plan::read_plan(file, model);
}

}  // namespace schmidt::pipeline
