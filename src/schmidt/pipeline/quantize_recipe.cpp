#include "schmidt/pipeline/quantize_recipe.h"

#include <c10/util/Exception.h>

#include "schmidt/model/config.h"
#include "schmidt/quant/nf4.h"

namespace schmidt::pipeline {
namespace {

constexpr const char* kNearest = "nearest";

plan::LayerPlan planned(const plan::Layer& layer, const QuantizeRecipe& recipe, int bits,
                        const std::string& method) {
  plan::LayerPlan p{.layer = layer, .method = method};
  if (recipe.nf4 && layer.block >= 0) {
    p.nf4 = true;
    return p;
  }
  // With 8 bits a zero point brings nothing that its bytes are worth.
  p.integers = {bits, recipe.group == 0 ? layer.cols : recipe.group, recipe.symmetric || bits == 8};
  return p;
}

void check_nf4(const QuantizeRecipe& recipe) {
  TORCH_CHECK_VALUE(recipe.bits == 4, "[quantize] NF4 expected 4 bits, got ", recipe.bits);
  TORCH_CHECK_VALUE(recipe.group == quant::kNf4Block, "[quantize] NF4 expected groups of ",
                    quant::kNf4Block, ", got ", recipe.group);
  TORCH_CHECK_VALUE(recipe.method.empty() || compress::find_method(recipe.method).nf4,
                    "[quantize] NF4 expected method ", kNearest, ", got ", recipe.method);
}

}  // namespace

CompressRecipe compress_recipe(const QuantizeRecipe& recipe, const io::Checkpoint& model) {
  if (recipe.nf4) check_nf4(recipe);
  const std::string method = !recipe.method.empty()           ? recipe.method
                             : recipe.bits == 8 || recipe.nf4 ? kNearest
                                                              : "learned";
  const model::ModelConfig config = model::parse_config(model.config(), model.path());
  CompressRecipe made{.fit = recipe.fit, .text = recipe.text};
  made.plan = plan::PlanFile{.made_by = {{"program", "schmidt " SCHMIDT_VERSION},
                                         {"bits", recipe.bits},
                                         {"group", recipe.group},
                                         {"symmetric", recipe.symmetric}}};
  if (recipe.nf4) made.plan->made_by["nf4"] = true;
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
