#include "schmidt/pipeline/quantize_recipe.h"

#include "schmidt/model/config.h"

namespace schmidt::pipeline {
namespace {

constexpr const char* kNearest = "nearest";

plan::LayerPlan planned(const plan::Layer& layer, const QuantizeRecipe& recipe, int bits,
                        const std::string& method) {
  plan::LayerPlan p{.layer = layer, .method = method};
  // With 8 bits a zero point brings nothing that its bytes are worth.
  p.integers = {bits, recipe.group == 0 ? layer.cols : recipe.group, recipe.symmetric || bits == 8};
  return p;
}

}  // namespace

CompressRecipe compress_recipe(const QuantizeRecipe& recipe, const io::Checkpoint& model) {
  const std::string method = !recipe.method.empty() ? recipe.method
                             : recipe.bits == 8     ? kNearest
                                                    : "learned";
  const model::ModelConfig config = model::parse_config(model.config(), model.path());
  CompressRecipe made{.fit = recipe.fit, .text = recipe.text};
  made.plan = plan::PlanFile{.made_by = {{"program", "schmidt " SCHMIDT_VERSION},
                                         {"bits", recipe.bits},
                                         {"group", recipe.group},
                                         {"symmetric", recipe.symmetric}}};
  if (recipe.vocabulary_bits) {
    for (const plan::Layer& layer : plan::dense_vocabulary(config)) {
      made.plan->layers.push_back(planned(layer, recipe, *recipe.vocabulary_bits, kNearest));
    }
  }
  const auto layers = plan::select_layers(plan::dense_layers(model), recipe.selection);
  for (const plan::Layer& layer : layers) {
    made.plan->layers.push_back(planned(layer, recipe, recipe.bits, method));
  }
  return made;
}

}  // namespace schmidt::pipeline
