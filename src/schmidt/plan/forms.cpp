#include "schmidt/plan/forms.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/plan/allocate.h"
#include "schmidt/quant/nf4.h"

namespace schmidt::plan {
namespace {

constexpr int64_t kWord = 4;          // bytes of packed codes, and of a pivot
constexpr int64_t kScale = 2;         // bytes of a scale
constexpr int64_t kHeader = 80;       // beside its name, of a tensor in a safetensors file
constexpr int64_t kFileHeader = 256;  // its length, and what it says of the whole

/// Of tensors whose names are this one and an end.
int64_t headers(const std::string& name, std::initializer_list<std::string_view> ends) {
  int64_t bytes = 0;
  for (const std::string_view end : ends) {
    bytes += static_cast<int64_t>(name.size() + end.size()) + kHeader;
  }
  return bytes;
}

/// Of codes, scales, zero points and shape of a matrix [m, n] under `name`.
int64_t matrix_bytes(const std::string& name, int64_t m, int64_t n,
                     const quant::IntegerFormat& format) {
  const int64_t groups = n / format.group;
  int64_t bytes = m * quant::packed_words(n, format.bits) * kWord + m * groups * kScale +
                  2 * static_cast<int64_t>(sizeof(int64_t));
  bytes += headers(name, {".weight_packed", ".weight_scale", ".weight_shape"});
  if (format.symmetric) return bytes;
  return bytes + quant::packed_words(m, format.bits) * kWord * groups +
         headers(name, {".weight_zero_point"});
}

/// Of the same in NF4 with double quantization (model/nf4_projection.h).
int64_t nf4_matrix_bytes(const Layer& layer) {
  constexpr int64_t kFloat = 4, kState = 160;  // the text of its state, at most
  const int64_t blocks = quant::blocks_of(layer.numel(), quant::kNf4Block);
  const int64_t numbers = quant::blocks_of(blocks, quant::kNestedBlock) + 16 + 256;
  return quant::nf4_bytes(layer.numel()) + blocks + numbers * kFloat + kState +
         headers(layer.name,
                 {".weight", ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax",
                  ".weight.nested_quant_map", ".weight.quant_state.bitsandbytes__nf4"});
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
  const Layer& layer = plan.layer;
  if (!plan.is_rounded()) {
    int64_t pivots = 0;
    if (plan.fixed_gauge) {
      for (const int64_t bond : plan.max_bonds) pivots += bond;
    }
    const auto sites = static_cast<int64_t>(plan.shape.out_dims.size());
    return plan.parameters() * scalar_bytes + pivots * kWord +
           sites * headers(layer.name, {".cores.0", ".pivots.0"});
  }
  if (plan.nf4) return nf4_matrix_bytes(layer);
  int64_t bytes = 0;
  const bool sum = plan.integers && plan.factor_integers;
  if (plan.integers) {
    bytes +=
        matrix_bytes(layer.name + (sum ? ".terms.0" : ""), layer.rows, layer.cols, *plan.integers);
  }
  if (plan.factor_integers) {
    const std::string name = layer.name + (sum ? ".terms.1" : "");
    bytes += matrix_bytes(name + ".left", layer.rows, plan.rank(), plan.left_integers()) +
             matrix_bytes(name + ".right", plan.rank(), layer.cols, *plan.factor_integers);
  }
  return bytes;
}

int64_t bytes_of_others(const io::Checkpoint& checkpoint, const std::set<std::string>& names,
                        std::optional<torch::ScalarType> dtype) {
  int64_t bytes = kFileHeader;
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (names.contains(name)) continue;
    int64_t numbers = 1;
    for (const int64_t size : info.shape) numbers *= size;
    const torch::ScalarType stored = dtype && isFloatingType(info.dtype) ? *dtype : info.dtype;
    bytes += numbers * static_cast<int64_t>(c10::elementSize(stored)) +
             static_cast<int64_t>(name.size()) + kHeader;
  }
  return bytes;
}

int64_t dense_bytes(const Layer& layer, int64_t scalar_bytes) {
  return layer.numel() * scalar_bytes + headers(layer.name, {".weight"});
}

}  // namespace schmidt::plan
