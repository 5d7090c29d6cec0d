#include "schmidt/pipeline/compress_recipe.h"

#include <set>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::pipeline {
namespace {

constexpr double kSmallestKeep = 1e-9;
constexpr int64_t kMost = int64_t{1} << 40;

const char* name_of(Allocation allocation) {
  return allocation == Allocation::kSensitivity ? "sensitivity" : "uniform";
}

std::string one_of(const io::JsonRecord& record, const char* key, const std::string& first,
                   const std::string& second) {
  const std::string found = record.text(key);
  if (found != first && found != second) {
    record.fail(key, fmt::format("expected {} or {}, found \"{}\"", first, second, found));
  }
  return found;
}

torch::ScalarType parse_dtype(const io::JsonRecord& record) {
  return one_of(record, "dtype", "float32", "bfloat16") == "float32" ? torch::kFloat32
                                                                     : torch::kBFloat16;
}

}  // namespace

std::vector<const compress::Method*> methods_of(const CompressRecipe& recipe) {
  std::set<const compress::Method*> all;
  if (!recipe.plan || !recipe.method.empty()) all.insert(&compress::find_method(recipe.method));
  if (recipe.buys_forms()) all.insert(&compress::find_method(kVocabularyMethod));
  const bool as_planned = all.empty();
  if (recipe.plan) {
    for (const plan::LayerPlan& p : recipe.plan->layers) {
      if (as_planned || p.layer.block < 0) all.insert(&compress::find_method(p.method));
    }
  }
  for (const plan::LayerPlan& p : recipe.pruning) all.insert(&compress::find_method(p.method));
  return {all.begin(), all.end()};
}

Needs needs_of(const std::vector<const compress::Method*>& methods) {
  Needs all;
  for (const compress::Method* m : methods) {
    all.inputs = all.inputs || m->needs_inputs;
    all.gradient = all.gradient || m->needs_gradient;
    all.outputs = all.outputs || m->needs_outputs;
  }
  return all;
}

nlohmann::json to_json(const CompressRecipe& recipe) {
  nlohmann::json made_by = {{"verb", "compress"}, {"program", "schmidt " SCHMIDT_VERSION}};
  made_by.update(compress::to_json(recipe.fit));
  made_by["method"] = recipe.method.empty() ? "as planned" : recipe.method;
  if (recipe.keep) made_by["keep"] = *recipe.keep;
  if (recipe.bond) made_by["bond"] = *recipe.bond;
  if (recipe.bytes) {
    made_by["bytes"] = *recipe.bytes;
    made_by["symmetric"] = recipe.forms.symmetric;
    made_by["group"] = recipe.forms.group;
    made_by["forms"] = names_of(recipe.forms.kinds);
    made_by["layers"] = recipe.selection.include;
    made_by["ignore"] = recipe.selection.ignore;
  } else if (recipe.plan) {
    made_by["plan"] = {{"made_by", recipe.plan->made_by},
                       {"layers", plan::planned_json(recipe.plan->layers)}};
  } else {
    made_by["shape"] = recipe.shape.low_rank ? "low-rank" : "balanced";
    made_by["gauge"] = recipe.shape.fixed_gauge ? "fixed" : "full";
    if (const auto& sites = recipe.shape.by_hand) {
      made_by["out_dims"] = sites->out_dims;
      made_by["in_dims"] = sites->in_dims;
    }
    made_by["allocation"] = name_of(recipe.allocation);
    made_by["layers"] = recipe.selection.include;
    made_by["ignore"] = recipe.selection.ignore;
    made_by["share_inputs"] = recipe.share_inputs;
  }
  if (recipe.mlp == MlpForm::kNeurons) made_by["mlp"] = "neurons";
  if (needs_of(methods_of(recipe)).inputs) made_by["calibration"] = to_json(recipe.text);
  if (recipe.dtype) {
    made_by["dtype"] = *recipe.dtype == torch::kBFloat16 ? "bfloat16" : "float32";
  }
  return made_by;
}

CompressRecipe parse_compress_recipe(const nlohmann::json& made_by, const io::Checkpoint& model,
                                     const std::filesystem::path& path) {
  const io::JsonRecord record(made_by, "made_by", path);
  CompressRecipe recipe;
  recipe.fit = compress::parse_method_options(record);
  recipe.method = record.text("method");
  if (record.has("keep")) recipe.keep = record.number("keep", kSmallestKeep, 1.0);
  if (record.has("bond")) recipe.bond = record.integer("bond", 1, kMost);
  if (record.has("bytes")) {
    recipe.bytes = record.number("bytes", 1.0, static_cast<double>(kMost));
    recipe.forms = {record.flag("symmetric"), record.integer("group", 0, kMost),
                    form_kinds(record.texts("forms"))};
    recipe.selection = {record.texts("layers"), record.texts("ignore")};
  } else if (record.has("plan")) {
    const io::JsonRecord planned = record.record("plan");
    if (recipe.method == "as planned") recipe.method.clear();
    recipe.plan = plan::PlanFile{.layers = plan::read_planned(planned, plan::outline(model)),
                                 .made_by = planned.object("made_by")};
    compress::check_methods(recipe.plan->layers, path);
  } else {
    recipe.shape.sites = recipe.fit.sites;
    recipe.shape.low_rank = one_of(record, "shape", "low-rank", "balanced") == "low-rank";
    recipe.shape.fixed_gauge = one_of(record, "gauge", "fixed", "full") == "fixed";
    if (record.has("out_dims")) {
      recipe.shape.by_hand = tn::SiteShape{record.sizes("out_dims"), record.sizes("in_dims")};
    }
    recipe.allocation = one_of(record, "allocation", "sensitivity", "uniform") == "uniform"
                            ? Allocation::kUniform
                            : Allocation::kSensitivity;
    recipe.selection = {record.texts("layers"), record.texts("ignore")};
    recipe.share_inputs = record.flag("share_inputs");
  }
  if (record.has("mlp") && one_of(record, "mlp", "low-rank", "neurons") == "neurons") {
    recipe.mlp = MlpForm::kNeurons;
  }
  const int asked = (recipe.keep ? 1 : 0) + (recipe.bytes ? 1 : 0) + (recipe.bond ? 1 : 0) +
                    (recipe.plan ? 1 : 0);
  if (asked != 1) {
    record.fail("keep", fmt::format("expected one of keep, bytes, bond and plan, found {}", asked));
  }
  if (record.has("calibration")) {
    recipe.text = parse_calibration_text(record.record("calibration"));
  }
  if (record.has("dtype")) recipe.dtype = parse_dtype(record);
  return recipe;
}

CompressRecipe recorded_recipe(const io::Checkpoint& compressed, const io::Checkpoint& model) {
  const nlohmann::json& config = compressed.config();
  const nlohmann::json none = nlohmann::json::object();
  const nlohmann::json object = config.value("compression_config", none);
  const nlohmann::json made_by = object.value("made_by", nlohmann::json::array());
  std::vector<nlohmann::json> compressions, prunings;
  for (const nlohmann::json& step : made_by) {
    const std::string verb = step.is_object() ? step.value("verb", "") : "";
    if (verb == "compress") compressions.push_back(step);
    if (verb == "prune") prunings.push_back(step);
  }
  if (compressions.size() != 1) {
    throw FormatError(compressed.path(), "compression_config.made_by",
                      fmt::format("expected one compression, found {}", compressions.size()));
  }
  CompressRecipe recipe = parse_compress_recipe(compressions.front(), model, compressed.path());
  // A budget prunes by itself.
  if (recipe.plan && !prunings.empty()) {
    const io::JsonRecord pruning(prunings.back(), "made_by", compressed.path());
    recipe.pruning = plan::read_planned(pruning, plan::outline(model));
  }
  return recipe;
}

}  // namespace schmidt::pipeline
