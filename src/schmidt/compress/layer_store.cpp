#include "schmidt/compress/layer_store.h"

#include <limits>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/network.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;

/// Adds one network under `prefix`; returns its description.
nlohmann::json add_network(StoredForm& stored, const std::string& prefix, const tn::Mpo& mpo,
                           bool fixed_gauge, torch::ScalarType dtype) {
  const model::Network network =
      fixed_gauge ? model::Network(tn::fix_gauge(mpo)) : model::Network(mpo);
  for (const model::NamedTensor& t : model::network_tensors(prefix, network)) {
    const torch::Tensor kept = t.tensor.is_floating_point() ? t.tensor.to(dtype) : t.tensor;
    stored.tensors.emplace_back(t.name, kept.contiguous());
  }
  return model::network_form(network);
}

/// JSON has no NaN and no infinity: they are written as null.
double number_or_nan(const nlohmann::json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

}  // namespace

StoredForm stored_form(const plan::Layer& layer, const Factors& factors, bool fixed_gauge,
                       torch::ScalarType dtype) {
  StoredForm stored;
  if (factors.terms.size() == 1) {
    stored.form = add_network(stored, layer.name, factors.terms.front(), fixed_gauge, dtype);
    stored.form["kind"] = "mpo";
  } else {
    stored.form["kind"] = "sum";
    for (size_t i = 0; i < factors.terms.size(); ++i) {
      stored.form["terms"].push_back(add_network(stored, fmt::format("{}.terms.{}", layer.name, i),
                                                 factors.terms[i], fixed_gauge, dtype));
    }
  }
  stored.form["relative_error"] = factors.relative_error;
  if (factors.weighted_error) stored.form["weighted_error"] = *factors.weighted_error;
  return stored;
}

LayerStore::LayerStore(fs::path folder, const std::string& work, bool force)
    : folder_(std::move(folder), work) {
  if (folder_.holds_in_own_folder() == WorkFolder::Holds::kOtherWork) {
    const fs::path around = folder_.path().parent_path();
    TORCH_CHECK_VALUE(force, "[output] ", around.string(),
                      " holds unfinished work of another model or recipe; expected the same again "
                      "(remove it, or --force drops it)");
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
bool LayerStore::has(const plan::Layer& layer) const { return fs::exists(form_file(layer)); }

void LayerStore::save(const plan::LayerPlan& plan, const Factors& factors,
                      const StoredForm& form) const {
  io::save_safetensors(tensors_file(plan.layer), form.tensors);
  nlohmann::json description = form.form;
  description["method"] = factors.method.empty() ? plan.method : factors.method;
  for (const Candidate& c : factors.candidates) {
    description["candidates"].push_back({{"method", c.method},
                                         {"error", c.error},
                                         {"parameters", c.parameters},
                                         {"finished", c.finished}});
  }
  write_file_atomically(form_file(plan.layer), description.dump());
}

nlohmann::json LayerStore::form(const plan::Layer& layer) const {
  return io::read_json_object(form_file(layer));
}

StoredForm LayerStore::load(const plan::Layer& layer) const {
  StoredForm stored{form(layer), {}};
  for (auto& [name, tensor] : io::load_safetensors(tensors_file(layer))) {
    stored.tensors.emplace_back(name, tensor);
  }
  return stored;
}

LayerResult LayerStore::result(const plan::LayerPlan& plan) const {
  const StoredForm stored = load(plan.layer);
  LayerResult result{.plan = plan};
  result.relative_error = number_or_nan(stored.form.at("relative_error"));
  result.method = stored.form.at("method").get<std::string>();
  for (const nlohmann::json& c : stored.form.value("candidates", nlohmann::json::array())) {
    result.candidates.push_back({c.at("method").get<std::string>(), number_or_nan(c.at("error")),
                                 c.at("parameters").get<int64_t>(), c.at("finished").get<bool>()});
  }
  if (stored.form.contains("weighted_error")) {
    result.weighted_error = number_or_nan(stored.form["weighted_error"]);
  }
  const nlohmann::json terms = stored.form.value("terms", nlohmann::json::array({stored.form}));
  for (const nlohmann::json& term : terms) {
    result.shapes.push_back({term.at("out_dims").get<std::vector<int64_t>>(),
                             term.at("in_dims").get<std::vector<int64_t>>()});
    result.bonds.push_back(term.at("bonds").get<std::vector<int64_t>>());
  }
  for (const auto& [name, tensor] : stored.tensors) {
    if (tensor.is_floating_point() && !name.ends_with(".bias")) result.parameters += tensor.numel();
  }
  return result;
}

}  // namespace schmidt::compress
