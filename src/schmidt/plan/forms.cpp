#include "schmidt/plan/forms.h"

#include <algorithm>
#include <numeric>
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

/// The forms of a layer whose cost ascends, by their numbers; of two that cost the same, the
/// better.
std::vector<size_t> ascending(const LayerForms& layer, const std::vector<int64_t>& costs) {
  std::vector<size_t> order(layer.forms.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return costs[a] != costs[b] ? costs[a] < costs[b] : layer.forms[a].loss < layer.forms[b].loss;
  });
  const auto same = std::ranges::unique(order, {}, [&](size_t form) { return costs[form]; });
  order.erase(same.begin(), same.end());
  return order;
}

}  // namespace

std::string form_text(const LayerPlan& plan) {
  if (plan.nf4) return "NF4";
  if (!plan.is_rounded()) return fmt::format("rank {}", plan.rank());
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
  std::vector<std::vector<int64_t>> bytes;
  for (const LayerForms& layer : layers) {
    bytes.emplace_back();
    for (const Form& form : layer.forms) bytes.back().push_back(form.bytes);
  }
  return plan_costs(layers, bytes, budget);
}

BytePlan plan_costs(const std::vector<LayerForms>& layers,
                    const std::vector<std::vector<int64_t>>& costs, int64_t budget) {
  std::vector<std::vector<size_t>> orders;
  std::vector<std::vector<Price>> prices;
  for (size_t i = 0; i < layers.size(); ++i) {
    orders.push_back(ascending(layers[i], costs[i]));
    prices.emplace_back();
    for (const size_t form : orders.back()) {
      prices.back().push_back({costs[i][form], layers[i].forms[form].loss});
    }
  }
  const std::vector<size_t> chosen = allocate(prices, budget);
  BytePlan plan;
  for (size_t i = 0; i < layers.size(); ++i) {
    const size_t number = orders[i][chosen[i]];
    const Form& form = layers[i].forms[number];
    plan.bytes += form.bytes;
    plan.loss += form.loss;
    plan.cost += costs[i][number];
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
