#include "schmidt/pipeline/plan_recipe.h"

#include <algorithm>

#include <c10/util/Exception.h>

namespace schmidt::pipeline {

nlohmann::json to_json(const PlanRecipe& recipe) {
  nlohmann::json made = {{"program", "schmidt " SCHMIDT_VERSION},
                         {"floor", recipe.limits.floor},
                         {"ceiling", recipe.limits.ceiling},
                         {"protect", recipe.protect},
                         {"ignore", recipe.ignore},
                         {"allocation", recipe.allocates() ? "profile" : "uniform"}};
  if (!recipe.profile) {
    made["sites"] = recipe.shape.sites;
    made["shape"] = recipe.shape.low_rank ? "low-rank" : "balanced";
  }
  if (recipe.keep) made["keep"] = *recipe.keep;
  if (recipe.bytes) made["bytes"] = *recipe.bytes;
  if (!recipe.preset.empty()) made["preset"] = recipe.preset;
  if (recipe.neurons) made["mlp"] = "neurons";
  if (recipe.speedup) {
    made["speedup"] = *recipe.speedup;
    made["speed_of"] = recipe.workload.prefill ? "prefill" : "decode";
    made["batch"] = recipe.workload.batch;
    if (recipe.workload.prefill) made["prompt"] = recipe.workload.prompt;
  }
  return made;
}

bool named(const std::vector<std::string>& patterns, const plan::Layer& layer) {
  return std::ranges::any_of(patterns, [&](const std::string& pattern) {
    if (plan::matches(pattern, layer)) return true;
    if (layer.members.size() < 2) return false;  // embedding and output layer have no number
    for (size_t i = 0; i < layer.members.size(); ++i) {
      const plan::Layer member{layer.members[i], layer.block, {layer.paper_numbers[i]}, {}, 0, 0};
      if (plan::matches(pattern, member)) return true;
    }
    return false;
  });
}

void check_any(const std::vector<plan::Layer>& layers) {
  TORCH_CHECK_VALUE(!layers.empty(),
                    "[plan] expected layers to compress, got none: all are protected, ignored or "
                    "not in the profile");
}

}  // namespace schmidt::pipeline
