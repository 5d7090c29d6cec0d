#include "schmidt/pipeline/stage_forecast.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "schmidt/compress/compress.h"
#include "schmidt/io/safetensors_layout.h"
#include "schmidt/pipeline/capacity.h"
#include "schmidt/plan/footprint.h"
#include "schmidt/plan/stored_specs.h"

namespace schmidt::pipeline {
namespace {

constexpr double kTrainedBytes = 16.0;  // master, gradient and two moments in float32

std::vector<io::TensorSpec> specs_of(const plan::Outline& model) {
  std::vector<io::TensorSpec> specs;
  for (const auto& [name, spec] : model.tensors) specs.push_back(spec);
  return specs;
}

double numel_of(const io::TensorSpec& spec) {
  double numbers = 1.0;
  for (const int64_t size : spec.shape) numbers *= static_cast<double>(size);
  return numbers;
}

/// Bytes of a tensor once it is loaded.
double loaded_bytes_of(const io::TensorSpec& spec, torch::ScalarType dtype) {
  return numel_of(spec) *
         static_cast<double>(c10::elementSize(isFloatingType(spec.dtype) ? dtype : spec.dtype));
}

bool is_dense_vocabulary(const std::string& tensor) {
  return tensor == "model.embed_tokens.weight" || tensor == "lm_head.weight";
}

bool has_network(const std::vector<plan::LayerPlan>& plan) {
  return std::ranges::any_of(plan, [](const auto& p) { return !p.is_rounded(); });
}

}  // namespace

ModelForecast forecast_of(const plan::Outline& model) {
  ModelForecast forecast{model, static_cast<double>(io::written_bytes(specs_of(model))),
                         std::nullopt};
  if (model.config.compressed_layers.empty()) {
    forecast.multiplications = plan::footprint(model, {}).multiplications;
  }
  return forecast;
}

ModelForecast forecast_compressed(const ModelForecast& model,
                                  const std::vector<plan::LayerPlan>& plan,
                                  std::optional<torch::ScalarType> dtype) {
  const plan::Outline& before = model.outline;
  ModelForecast after = model;
  after.outline.fingerprint.reset();
  const plan::Footprint footprint = plan::footprint(before, plan);
  after.outline.parameters = footprint.parameters;
  if (has_network(plan)) {
    const bool is_original = before.config.compressed_layers.empty() &&
                             plan::layers_of(before.config).size() == before.layers.size();
    after.multiplications = is_original ? std::optional(footprint.multiplications) : std::nullopt;
  }
  std::set<std::string> taken;
  for (const plan::LayerPlan& p : plan) {
    taken.insert(p.layer.members.begin(), p.layer.members.end());
  }
  std::erase_if(after.outline.layers,
                [&](const plan::Layer& layer) { return taken.contains(layer.name); });
  const auto written = plan::written_tensors(before.tensors, plan, dtype);
  after.outline.tensors.clear();
  for (const io::TensorSpec& spec : written) after.outline.tensors[spec.name] = spec;
  after.bytes = static_cast<double>(io::written_bytes(written));
  return after;
}

std::optional<ModelForecast> forecast_quantized(const ModelForecast& model,
                                                const QuantizeRecipe& recipe) {
  const std::vector<std::string>& include = recipe.selection.include;
  const auto includes = [&](const char* word) { return std::ranges::count(include, word) > 0; };
  const bool all_dense =
      model.outline.layers.size() == plan::layers_of(model.outline.config).size();
  const bool only_dense = include.empty() || (include.size() == 1 && includes("dense"));
  if (!only_dense && !all_dense) return std::nullopt;
  std::vector<plan::Layer> layers = model.outline.layers;
  std::erase_if(layers, [&](const plan::Layer& layer) {
    return !only_dense && !includes("all") && !includes("dense") &&
           std::ranges::none_of(include,
                                [&](const auto& pattern) { return plan::matches(pattern, layer); });
  });
  for (const plan::Layer& layer : plan::dense_vocabulary(model.outline.config)) {
    if (model.outline.tensors.contains(layer.name + ".weight")) layers.push_back(layer);
  }
  const std::vector<plan::LayerPlan> plan = integer_plan(recipe, layers);
  compress::check_plan(plan, recipe.fit);
  return forecast_compressed(model, plan, std::nullopt);
}

double loaded_bytes(const plan::Outline& model, torch::ScalarType dtype) {
  double bytes = 0.0;
  for (const auto& [name, spec] : model.tensors) bytes += loaded_bytes_of(spec, dtype);
  return kLoadedShare * bytes;
}

double healing_bytes(const plan::Outline& student, const plan::Outline* teacher,
                     torch::ScalarType dtype) {
  double bytes = 0.0;
  for (const auto& [name, spec] : student.tensors) {
    bytes += loaded_bytes_of(spec, dtype);
    if (isFloatingType(spec.dtype) && !is_dense_vocabulary(name)) {
      bytes += kTrainedBytes * numel_of(spec);
    }
  }
  if (teacher == nullptr) return bytes;
  for (const auto& [name, spec] : teacher->tensors) bytes += loaded_bytes_of(spec, dtype);
  return bytes;
}

std::optional<double> calibration_flops(const ModelForecast& model, bool gradient) {
  if (!model.multiplications) return std::nullopt;
  const auto& experts = model.outline.config.experts;
  std::set<std::pair<int64_t, model::Group>> seen;  // layers that read the same share its moments
  double sums = 0.0;
  for (const plan::Layer& layer : model.outline.layers) {
    const bool is_chosen = experts && layer.expert.value_or(experts->count) < experts->count;
    const double taken =
        is_chosen ? static_cast<double>(experts->active) / static_cast<double>(experts->count)
                  : 1.0;
    const auto rows = static_cast<double>(layer.rows), cols = static_cast<double>(layer.cols);
    if (gradient) sums += taken * rows * rows;
    if (seen.emplace(layer.block, layer.group()).second) sums += taken * cols * cols;
  }
  return (gradient ? 6.0 : 2.0) * *model.multiplications + 2.0 * sums;
}

}  // namespace schmidt::pipeline
