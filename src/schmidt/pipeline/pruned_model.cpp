#include "schmidt/pipeline/pruned_model.h"

#include <c10/util/Exception.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/work_folder.h"
#include "schmidt/io/json.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/plan/plan_file.h"

namespace schmidt::pipeline {

nlohmann::json pruning_log(const io::Checkpoint& model, const CompressRecipe& recipe,
                           const torch::Tensor& windows) {
  nlohmann::json asked = to_json(recipe);
  if (!recipe.pruning.empty()) asked["pruning"] = plan::planned_json(recipe.pruning);
  return {{"verb", "prune"},
          {"program", "schmidt " SCHMIDT_VERSION},
          {"model", package::fingerprint(model)},
          {"text", package::Fingerprint().add(windows).hex()},
          {"for", asked}};
}

std::optional<nlohmann::json> pruned_already(const std::filesystem::path& pruned,
                                             const nlohmann::json& log, bool force) {
  if (force || !path_exists(pruned)) return std::nullopt;
  const auto config = pruned / "config.json";
  nlohmann::json found = nlohmann::json::object();
  try {
    if (path_exists(config)) found = io::read_json_object(config);
  } catch (const FormatError&) {  // then it is something else
  }
  const nlohmann::json made_by =
      found.value(nlohmann::json::json_pointer("/compression_config/made_by"), nlohmann::json());
  if (made_by.is_array() && !made_by.empty() && made_by.back().is_object()) {
    nlohmann::json last = made_by.back();
    for (const char* key : {"predicted_loss", "layers"}) last.erase(key);
    if (last == log) return made_by.back();
  }
  TORCH_CHECK_VALUE(false, "[output] ", pruned.string(),
                    " holds something else than the pruned model of this recipe; expected nothing "
                    "there (remove it, or force drops it)");
  return std::nullopt;
}

void drop_pruned(const std::filesystem::path& pruned) {
  const std::filesystem::path going = partial_folder(pruned);
  remove_tree(going);
  move_path(pruned, going);
  remove_tree(going);
}

}  // namespace schmidt::pipeline
