#include "schmidt/plan/plan_file.h"

#include <map>
#include <set>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/io/json.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/plan/compressed_layers.h"

namespace schmidt::plan {
namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kMaxSize = int64_t{1} << 28;

/// Dense layers by name, one by one and stacked where they share an input.
std::map<std::string, Layer> layers_by_name(const std::vector<Layer>& layers) {
  std::map<std::string, Layer> named;
  for (const Layer& layer : layers) named.emplace(layer.name, layer);
  for (const Layer& layer : share_inputs(layers)) named.emplace(layer.name, layer);
  return named;
}

// Stops where the product leaves what sizes may be.
bool multiplies_to(const std::vector<int64_t>& dims, int64_t size) {
  int64_t product = 1;
  for (const int64_t d : dims) {
    if (product > kMaxSize) return false;
    product *= d;
  }
  return product == size;
}

void check_model(const io::JsonRecord& plan, const Outline& model) {
  const io::JsonRecord made_for = plan.record("model");
  const int64_t parameters = made_for.integer("parameters", 1, INT64_MAX);
  const bool same = made_for.has("fingerprint") && model.fingerprint
                        ? made_for.text("fingerprint") == *model.fingerprint
                        : parameters == model.parameters;
  if (!same) {
    plan.fail("model", fmt::format("expected a plan made for {}, found one for another model of "
                                   "{} parameters",
                                   model.path.string(), parameters));
  }
}

}  // namespace

void write_network(nlohmann::ordered_json& entry, const LayerPlan& plan) {
  entry["method"] = plan.method;
  entry["out_dims"] = plan.shape.out_dims;
  entry["in_dims"] = plan.shape.in_dims;
  entry["gauge"] = plan.fixed_gauge ? "fixed" : "full";
}

LayerPlan read_network(const io::JsonRecord& entry, const Layer& layer) {
  LayerPlan plan{.layer = layer};
  plan.shape.out_dims = entry.integers("out_dims", 1, kMaxSize);
  plan.shape.in_dims = entry.integers("in_dims", 1, kMaxSize);
  if (plan.shape.out_dims.size() < 2 || plan.shape.out_dims.size() != plan.shape.in_dims.size()) {
    entry.fail("out_dims", fmt::format("expected two or more sites and as many in_dims, found {} "
                                       "and {}",
                                       plan.shape.out_dims.size(), plan.shape.in_dims.size()));
  }
  if (!multiplies_to(plan.shape.out_dims, layer.rows) ||
      !multiplies_to(plan.shape.in_dims, layer.cols)) {
    entry.fail("out_dims", fmt::format("expected sites that multiply out to {} x {}, the shape of "
                                       "{}",
                                       layer.rows, layer.cols, layer.name));
  }
  plan.method = entry.text("method");
  const std::string gauge = entry.text("gauge");
  if (gauge != "fixed" && gauge != "full") {
    entry.fail("gauge", fmt::format("expected fixed or full, found \"{}\"", gauge));
  }
  plan.fixed_gauge = gauge == "fixed";
  return plan;
}

std::vector<int64_t> read_bonds(const io::JsonRecord& entry, const tn::SiteShape& shape) {
  std::vector<int64_t> bonds = entry.integers("bonds", 1, kMaxSize);
  const std::vector<int64_t> full = tn::full_bonds(shape);
  if (bonds.size() != full.size()) {
    entry.fail("bonds", fmt::format("expected {}, found {}", full.size(), bonds.size()));
  }
  for (size_t k = 0; k < bonds.size(); ++k) {
    if (bonds[k] > full[k]) {
      entry.fail("bonds",
                 fmt::format("expected at most {} at cut {}, found {}", full[k], k + 1, bonds[k]));
    }
  }
  return bonds;
}

nlohmann::ordered_json planned_json(const std::vector<LayerPlan>& layers) {
  nlohmann::ordered_json all = nlohmann::json::array();
  for (const LayerPlan& p : layers) {
    nlohmann::ordered_json entry = {{"name", p.layer.name}, {"members", p.layer.members}};
    if (p.neurons) {
      entry["method"] = p.method;
      entry["neurons"] = *p.neurons;
    } else if (p.is_rounded()) {
      entry["method"] = p.method;
      if (p.nf4) entry["nf4"] = true;
      if (p.integers) entry["integers"] = model::to_json(*p.integers);
      if (p.factor_integers) {
        entry["rank"] = p.rank();
        entry["factor_integers"] = model::to_json(*p.factor_integers);
      }
    } else {
      write_network(entry, p);
      entry["bonds"] = p.max_bonds;
    }
    all.push_back(std::move(entry));
  }
  return all;
}

namespace {

LayerPlan read_with_bonds(const io::JsonRecord& entry, const Layer& layer) {
  LayerPlan plan = read_network(entry, layer);
  plan.max_bonds = read_bonds(entry, plan.shape);
  return plan;
}

bool is_rounded(const io::JsonRecord& entry) {
  return entry.has("integers") || entry.has("factor_integers") || entry.has("nf4");
}

LayerPlan read_rounded(const io::JsonRecord& entry, const Layer& layer) {
  LayerPlan plan{.layer = layer};
  plan.method = entry.text("method");
  plan.nf4 = entry.has("nf4") && entry.flag("nf4");
  if (plan.nf4 && (entry.has("integers") || entry.has("factor_integers"))) {
    entry.fail("nf4", "expected NF4 alone, found integers beside it");
  }
  if (entry.has("integers")) {
    plan.integers = model::parse_integer_format(entry.record("integers"));
  }
  if (entry.has("factor_integers")) {
    plan.factor_integers = model::parse_integer_format(entry.record("factor_integers"));
    plan.shape = tn::low_rank_shape(layer.rows, layer.cols);
    plan.max_bonds = {entry.integer("rank", 1, std::min(layer.rows, layer.cols))};
  }
  return plan;
}

}  // namespace

std::vector<LayerPlan> read_planned(const io::JsonRecord& object, const Outline& model,
                                    const char* key) {
  std::map<std::string, Layer> known = layers_by_name(model.layers);
  for (const Layer& layer : dense_vocabulary(model.config)) known.emplace(layer.name, layer);
  for (const LowRankLayer& low_rank : compressed_layers(model.config, model.path).low_ranks) {
    known.emplace(low_rank.layer.name, low_rank.layer);
  }
  std::set<std::string> planned;
  std::vector<LayerPlan> layers;
  for (const io::JsonRecord& entry : object.records(key)) {
    const std::string name = entry.text("name");
    const auto found = known.find(name);
    if (found == known.end()) {
      entry.fail(
          "name",
          fmt::format("expected a dense layer of the model or a low rank, found \"{}\"", name));
    }
    if (entry.texts("members") != found->second.members) {
      entry.fail("members", fmt::format("expected those of {}", name));
    }
    for (const std::string& member : found->second.members) {
      if (!planned.insert(member).second) {
        entry.fail("name", fmt::format("expected {} once, found it twice", member));
      }
    }
    if (entry.has("neurons")) {
      layers.push_back(pruned(found->second, entry.integer("neurons", 1, found->second.cols)));
      layers.back().method = entry.text("method");
      continue;
    }
    layers.push_back(is_rounded(entry) ? read_rounded(entry, found->second)
                                       : read_with_bonds(entry, found->second));
  }
  // Work goes in the model's order, whatever the file's.
  std::ranges::stable_sort(layers, {}, [](const LayerPlan& p) { return place_in_model(p.layer); });
  return layers;
}

void write_plan(const std::filesystem::path& path, const PlanFile& plan, const Outline& model) {
  nlohmann::ordered_json file = {{"version", kVersion}};
  file["model"]["fingerprint"] =
      model.fingerprint ? nlohmann::json(*model.fingerprint) : nlohmann::json();
  file["model"]["parameters"] = model.parameters;
  file["keep"] = plan.keep;
  file["made_by"] = plan.made_by;
  file["predicted"] = plan.predicted;
  if (!plan.dtype.empty()) file["dtype"] = plan.dtype;
  std::set<std::string> planned;
  for (const LayerPlan& p : plan.layers)
    planned.insert(p.layer.members.begin(), p.layer.members.end());
  file["dense"] = nlohmann::json::array();
  for (const Layer& layer : model.layers) {
    if (!planned.contains(layer.name)) file["dense"].push_back(layer.name);
  }
  if (!plan.pruning.empty()) file["pruning"] = planned_json(plan.pruning);
  file["layers"] = planned_json(plan.layers);
  write_file_atomically(path, io::json_text(file, 1) + "\n");
}

PlanFile read_plan(const std::filesystem::path& path, const Outline& model) {
  const nlohmann::json content = io::read_json_object(path);
  const io::JsonRecord file(content, "", path);
  file.integer("version", kVersion, kVersion);
  check_model(file, model);
  PlanFile result;
  result.made_by = file.object("made_by");
  result.keep = file.number("keep", 0.0, 1.0);
  if (file.has("dtype")) result.dtype = file.text("dtype");
  if (!result.dtype.empty() && result.dtype != "float32" && result.dtype != "bfloat16") {
    file.fail("dtype", fmt::format("expected float32 or bfloat16, found \"{}\"", result.dtype));
  }

  if (file.has("pruning")) {
    result.pruning = read_planned(file, model, "pruning");
    for (const LayerPlan& p : result.pruning) {
      if (!p.neurons) {
        file.fail("pruning", fmt::format("expected neurons of {}, found none", p.layer.name));
      }
    }
  }
  result.layers = read_planned(file, model);
  const std::map<std::string, Layer> known = layers_by_name(model.layers);
  std::set<std::string> planned;
  for (const LayerPlan& p : result.layers) {
    planned.insert(p.layer.members.begin(), p.layer.members.end());
  }
  for (const std::string& name : file.texts("dense")) {
    if (!known.contains(name) || planned.contains(name)) {
      file.fail("dense", fmt::format("expected layers of the model that are not planned, found "
                                     "\"{}\"",
                                     name));
    }
  }
  return result;
}

PlanFile read_plan(const std::filesystem::path& path, const io::Checkpoint& checkpoint) {
  return read_plan(path, outline(checkpoint));
}

}  // namespace schmidt::plan
