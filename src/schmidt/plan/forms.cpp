#include "schmidt/plan/forms.h"

#include <algorithm>
#include <string>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/plan/allocate.h"
#include "schmidt/plan/stored_specs.h"

namespace schmidt::plan {
namespace {

constexpr int64_t kHeader = 80;       // beside its name, of a tensor in a safetensors file
constexpr int64_t kFileHeader = 256;  // its length, and what it says of the whole

/// At most, with what the file's header says of it.
int64_t bytes_of(const io::TensorSpec& spec) {
  int64_t bytes = static_cast<int64_t>(c10::elementSize(spec.dtype));
  for (const int64_t size : spec.shape) bytes *= size;
  return bytes + static_cast<int64_t>(spec.name.size()) + kHeader;
}

/// The forms of a layer whose cost ascends; of two that cost the same, the better.
std::vector<Form> ascending(const LayerForms& layer) {
  std::vector<Form> forms = layer.forms;
  std::ranges::stable_sort(forms, [](const Form& a, const Form& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.loss < b.loss;
  });
  const auto same = std::ranges::unique(forms, {}, &Form::bytes);
  forms.erase(same.begin(), same.end());
  return forms;
}

}  // namespace

std::string form_text(const LayerPlan& plan) {
  if (plan.nf4) return "NF4";
  std::string text = plan.integers ? plan.integers->label() : "";
  if (plan.factor_integers) {
    text += fmt::format("{}rank {} in int{}", text.empty() ? "" : " + ", plan.rank(),
                        plan.factor_integers->bits);
  }
  return text;
}

int64_t least_bytes(const std::vector<LayerForms>& layers) {
  int64_t least = 0;
  for (const LayerForms& layer : layers) {
    least += std::ranges::min(layer.forms, {}, &Form::bytes).bytes;
  }
  return least;
}

BytePlan plan_bytes(const std::vector<LayerForms>& layers, int64_t budget) {
  std::vector<std::vector<Form>> forms;
  std::vector<std::vector<Price>> prices;
  for (const LayerForms& layer : layers) {
    forms.push_back(ascending(layer));
    prices.emplace_back();
    for (const Form& form : forms.back()) prices.back().push_back({form.bytes, form.loss});
  }
  const std::vector<size_t> chosen = allocate(prices, budget);
  BytePlan plan;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Form& form = forms[i][chosen[i]];
    plan.bytes += form.bytes;
    plan.loss += form.loss;
    if (form.plan) plan.layers.push_back(*form.plan);
  }
  return plan;
}

int64_t stored_bytes(const LayerPlan& plan, int64_t scalar_bytes) {
  int64_t bytes = 0;
  for (const io::TensorSpec& spec :
       planned_tensors(plan, scalar_bytes == 2 ? torch::kBFloat16 : torch::kFloat32)) {
    bytes += bytes_of(spec);
  }
  return bytes;
}

int64_t bytes_of_others(const io::Checkpoint& checkpoint, const std::set<std::string>& names,
                        std::optional<torch::ScalarType> dtype) {
  int64_t bytes = kFileHeader;
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (names.contains(name)) continue;
    const torch::ScalarType stored = dtype && isFloatingType(info.dtype) ? *dtype : info.dtype;
    bytes += bytes_of({name, stored, info.shape});
  }
  return bytes;
}

int64_t dense_bytes(const Layer& layer, int64_t scalar_bytes) {
  return layer.numel() * scalar_bytes + static_cast<int64_t>((layer.name + ".weight").size()) +
         kHeader;
}

}  // namespace schmidt::plan
