#include "schmidt/pipeline/plan_for_speed.h"

#include <c10/util/Exception.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/output_place.h"
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/plan_by_statistics.h"

namespace schmidt::pipeline {
namespace {

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

}  // namespace

std::filesystem::path speed_plan_of(const std::filesystem::path& out) {
  return with_ending(out, ".plan.json");
}

void check_speedup(const io::Checkpoint& model, const CompressRecipe& recipe,
                   const std::filesystem::path& file, bool force) {
  if (parallel::rank() != 0) return;
  const PlanRecipe asked = plan_recipe(recipe);
  if (force || !path_exists(file)) {
    check_speedup(plan::outline(model), asked);
    return;
  }
  const nlohmann::json found = plan::read_plan(file, model).made_by;
  TORCH_CHECK_VALUE(found == made_by(asked, found.value("statistics", std::string())), "[output] ",
                    file.string(), " is another plan; expected none, or force");
}

plan::PlanFile plan_for_speed(const io::Checkpoint& model, const CompressRecipe& recipe,
                              const std::filesystem::path& statistics,
                              const std::filesystem::path& file, bool force) {
  if (parallel::rank() == 0) {
    PlanRecipe asked = plan_recipe(recipe);
    asked.statistics = statistics;
    const bool goes_on = !force && path_exists(file) &&
                         plan::read_plan(file, model).made_by ==
                             made_by(asked, calibrate::fingerprint_in(statistics));
    if (!goes_on) plan_by_statistics(plan::outline(model), asked, file, force);
  }
  parallel::barrier();
  return plan::read_plan(file, model);
}

}  // namespace schmidt::pipeline
