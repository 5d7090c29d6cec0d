#include "schmidt/compress/layer_store.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/layer_kinds.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;

/// JSON has no NaN and no infinity: they are written as null.
double number_or_nan(const nlohmann::json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

/// A layer's form, or the activations in front of a block, as what is needed to go on.
bool has_results(const fs::path& folder) {
  if (path_exists(folder / "streams" / "position.json")) return true;
  return std::ranges::any_of(fs::directory_iterator(folder),
                             [](const auto& entry) { return entry.path().extension() == ".json"; });
}

}  // namespace

LayerStore::LayerStore(fs::path folder, const std::string& work, bool force)
    : folder_(std::move(folder), work, has_results) {
  if (folder_.holds_in_own_folder() == WorkFolder::Holds::kOtherWork) {
    const fs::path around = folder_.path().parent_path();
    TORCH_CHECK_VALUE(force, "[output] ", around.string(),
                      " holds unfinished work of another model or recipe; expected the same again "
                      "(remove it, or force drops it)");
    remove_all_but(around, {});
  }
  folder_.claim();
}

fs::path LayerStore::tensors_file(const plan::Layer& layer) const {
  return folder_.path() / (layer.name + ".safetensors");
}
fs::path LayerStore::form_file(const plan::Layer& layer) const {
  return folder_.path() / (layer.name + ".json");
}

// The form is written last: where it is, the tensors are.
bool LayerStore::has(const plan::Layer& layer) const { return path_exists(form_file(layer)); }

void LayerStore::save(const plan::LayerPlan& plan, const StoredFit& fit) const {
  const FittedWeight& fitted = fit.fitted;
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const model::NamedTensor& t : fit.stored.tensors) tensors.emplace_back(t.name, t.tensor);
  io::save_safetensors(tensors_file(plan.layer), tensors);
  nlohmann::json description = fit.stored.form;
  description["method"] = fitted.method.empty() ? plan.method : fitted.method;
  for (const Candidate& c : fitted.candidates) {
    description["candidates"].push_back({{"method", c.method},
                                         {"error", c.error},
                                         {"parameters", c.parameters},
                                         {"finished", c.finished}});
  }
  write_file_atomically(form_file(plan.layer), io::json_text(description));
}

nlohmann::json LayerStore::form(const plan::Layer& layer) const {
  return io::read_json_object(form_file(layer));
}

model::StoredWeight LayerStore::load(const plan::Layer& layer) const {
  model::StoredWeight stored{form(layer), {}};
  for (auto& [name, tensor] : io::load_safetensors(tensors_file(layer))) {
    stored.tensors.push_back({name, tensor});
  }
  return stored;
}

LayerResult LayerStore::result(const plan::LayerPlan& plan) const {
  const model::StoredWeight stored = load(plan.layer);
  LayerResult result{.plan = plan};
  result.relative_error = number_or_nan(stored.form.at("relative_error"));
  result.method = stored.form.at("method").get<std::string>();
  for (const nlohmann::json& c : stored.form.value("candidates", nlohmann::json::array())) {
    result.candidates.push_back({c.at("method").get<std::string>(), number_or_nan(c.at("error")),
                                 c.at("parameters").get<int64_t>(), c.at("finished").get<bool>()});
  }
  if (stored.form.contains("rounding_error")) {
    result.rounding_error = number_or_nan(stored.form["rounding_error"]);
  }
  if (stored.form.contains("weighted_error")) {
    result.weighted_error = number_or_nan(stored.form["weighted_error"]);
  }
  result.networks = model::describe_weight(plan.layer.name, stored).networks;
  if (plan.neurons) {
    result.parameters = plan.parameters();
    return result;
  }
  for (const auto& [name, tensor, role] : stored.tensors) {
    if (tensor.is_floating_point() && !name.ends_with(".bias")) result.parameters += tensor.numel();
  }
  return result;
}

}  // namespace schmidt::compress
