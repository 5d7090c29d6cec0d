#include "schmidt/pipeline/quantize_recipe.h"

#include <algorithm>
#include <functional>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/model/config.h"
#include "schmidt/pipeline/byte_plan.h"
#include "schmidt/plan/compressed_layers.h"
#include "schmidt/quant/nf4.h"

namespace schmidt::pipeline {
namespace {

constexpr const char* kNearest = "nearest";
constexpr const char* kDense = "dense";
constexpr const char* kAll = "all";

std::string method_of(const QuantizeRecipe& recipe) {
  if (!recipe.method.empty()) return recipe.method;
  return recipe.bits == 8 || recipe.nf4 ? kNearest : "learned";
}

quant::IntegerFormat format_for(const plan::Layer& layer, const QuantizeRecipe& recipe, int bits) {
  // With 8 bits a zero point brings nothing that its bytes are worth.
  return {bits, recipe.group == 0 ? layer.cols : recipe.group, recipe.symmetric || bits == 8};
}

plan::LayerPlan planned(const plan::Layer& layer, const QuantizeRecipe& recipe, int bits,
                        const std::string& method) {
  plan::LayerPlan p{.layer = layer, .method = method};
  if (recipe.nf4 && layer.block >= 0) {
    p.nf4 = true;
    return p;
  }
  p.integers = format_for(layer, recipe, bits);
  return p;
}

plan::LayerPlan planned(const plan::LowRankLayer& low_rank, const QuantizeRecipe& recipe) {
  const plan::Layer& layer = low_rank.layer;
  TORCH_CHECK_VALUE(!recipe.nf4, "[quantize] NF4 expected dense layers, got the low rank ",
                    layer.name);
  plan::LayerPlan p{.layer = layer, .method = method_of(recipe)};
  p.shape = tn::low_rank_shape(layer.rows, layer.cols);
  p.max_bonds = {low_rank.rank};
  p.factor_integers = format_for(layer, recipe, recipe.bits);
  return p;
}

void check_nf4(const QuantizeRecipe& recipe) {
  TORCH_CHECK_VALUE(recipe.bits == 4, "[quantize] NF4 expected 4 bits, got ", recipe.bits);
  TORCH_CHECK_VALUE(recipe.group == quant::kNf4Block, "[quantize] NF4 expected groups of ",
                    quant::kNf4Block, ", got ", recipe.group);
  TORCH_CHECK_VALUE(recipe.method.empty() || compress::find_method(recipe.method).nf4,
                    "[quantize] NF4 expected method ", kNearest, ", got ", recipe.method);
}

bool is_word(const std::string& pattern) {
  return pattern == kDense || pattern == kAll || pattern == "none";
}

bool names_one(const std::string& pattern, const std::vector<plan::Layer>& layers) {
  return std::ranges::any_of(layers, [&](const auto& l) { return plan::matches(pattern, l); });
}

/// The layers of a model's blocks, by what rounding makes of them.
struct Layers {
  std::vector<plan::Layer> dense;
  plan::CompressedLayers compressed;

  std::vector<plan::Layer> roundable() const {
    std::vector<plan::Layer> all = dense;
    for (const plan::LowRankLayer& l : compressed.low_ranks) all.push_back(l.layer);
    return all;
  }
};

Layers layers_of(const io::Checkpoint& model, const model::ModelConfig& config) {
  return {plan::dense_layers(model), plan::compressed_layers(config, model.path())};
}

void check_patterns(const std::vector<std::string>& patterns, const Layers& layers) {
  const std::vector<plan::Layer> roundable = layers.roundable();
  for (const std::string& pattern : patterns) {
    if (is_word(pattern) || names_one(pattern, roundable)) continue;
    TORCH_CHECK_VALUE(!names_one(pattern, layers.compressed.others),
                      "[quantize] expected layers that are not quantized yet, got ", pattern);
    TORCH_CHECK_VALUE(!names_one(pattern, layers.compressed.networks),
                      "[quantize] expected dense layers or low ranks, got ", pattern,
                      ", networks of other sites or sums of networks");
    plan::check_patterns("layers", {pattern}, roundable);
  }
}

bool takes(const plan::LayerSelection& selection, const plan::Layer& layer, bool is_dense) {
  const auto any = [&](const std::vector<std::string>& patterns) {
    return std::ranges::any_of(patterns, [&](const std::string& pattern) {
      return pattern == kAll || (pattern == kDense && is_dense) || plan::matches(pattern, layer);
    });
  };
  return (selection.include.empty() ? is_dense : any(selection.include)) && !any(selection.ignore);
}

std::string count_of(size_t layers, const char* what) {
  return layers == 0 ? "" : fmt::format(", {} {}", layers, what);
}

}  // namespace

std::vector<plan::LayerPlan> integer_plan(const QuantizeRecipe& recipe,
                                          const std::vector<plan::Layer>& layers) {
  std::vector<plan::LayerPlan> plans;
  for (const plan::Layer& layer : layers) {
    if (layer.block >= 0) {
      plans.push_back(planned(layer, recipe, recipe.bits, method_of(recipe)));
    } else if (recipe.vocabulary_bits) {
      // 8 bits lose too little for feedback to gain anything.
      const bool feeds_back = *recipe.vocabulary_bits < 8 && method_of(recipe) != kNearest;
      plans.push_back(planned(layer, recipe, *recipe.vocabulary_bits,
                              feeds_back ? kVocabularyMethod : kNearest));
    }
  }
  return plans;
}

CompressRecipe compress_recipe(const QuantizeRecipe& recipe, const io::Checkpoint& model) {
  if (recipe.nf4) check_nf4(recipe);
  const model::ModelConfig config = model::parse_config(model.config(), model.path());
  CompressRecipe made{.fit = recipe.fit, .text = recipe.text};
  made.plan = plan::PlanFile{.made_by = {{"program", "schmidt " SCHMIDT_VERSION},
                                         {"bits", recipe.bits},
                                         {"group", recipe.group},
                                         {"symmetric", recipe.symmetric}}};
  if (recipe.nf4) made.plan->made_by["nf4"] = true;
  const Layers layers = layers_of(model, config);
  check_patterns(recipe.selection.include, layers);
  std::vector<plan::Layer> dense = layers.dense;
  std::erase_if(dense, [&](const auto& layer) { return !takes(recipe.selection, layer, true); });
  std::vector<plan::LayerPlan> chosen = integer_plan(recipe, dense);
  for (const plan::LowRankLayer& low_rank : layers.compressed.low_ranks) {
    if (takes(recipe.selection, low_rank.layer, false)) chosen.push_back(planned(low_rank, recipe));
  }
  const plan::CompressedLayers& other = layers.compressed;
  TORCH_CHECK_VALUE(!chosen.empty(), "[quantize] nothing is left to round of the selected layers: ",
                    "the model has ", layers.dense.size(), " dense ones",
                    count_of(other.low_ranks.size(), "low ranks"),
                    count_of(other.networks.size(), "other networks"),
                    count_of(other.others.size(), "that are quantized already"));
  // Work goes in the model's order.
  std::ranges::stable_sort(chosen, {},
                           [](const plan::LayerPlan& p) { return plan::place_in_model(p.layer); });
  made.plan->layers = integer_plan(recipe, plan::dense_vocabulary(config));
  std::ranges::move(chosen, std::back_inserter(made.plan->layers));
  return made;
}

std::vector<std::string> quantize_notes(const QuantizeRecipe& recipe, const io::Checkpoint& model) {
  if (std::ranges::count(recipe.selection.include, kAll) == 0) return {};
  const auto config = model::parse_config(model.config(), model.path());
  const size_t left = plan::compressed_layers(config, model.path()).networks.size();
  if (left == 0) return {};
  return {
      fmt::format("{} layers are networks of more sites or sums of networks, and stay as they "
                  "are: only dense layers and low ranks are rounded",
                  left)};
}

}  // namespace schmidt::pipeline
