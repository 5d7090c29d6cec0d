#include "schmidt/plan/stored_specs.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "schmidt/io/nf4_state.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/sum_projection.h"
#include "schmidt/quant/integer_format.h"
#include "schmidt/quant/nf4.h"

namespace schmidt::plan {
namespace {

using Specs = std::vector<io::TensorSpec>;

/// As model::quantized_weight stores a matrix [m, n].
void add_integers(Specs& specs, const std::string& name, int64_t m, int64_t n,
                  const quant::IntegerFormat& format) {
  const int64_t groups = n / format.group;
  specs.push_back(
      {name + ".weight_packed", torch::kInt32, {m, quant::packed_words(n, format.bits)}});
  specs.push_back({name + ".weight_scale", torch::kFloat16, {m, groups}});
  specs.push_back({name + ".weight_shape", torch::kInt64, {2}});
  if (format.symmetric) return;
  specs.push_back(
      {name + ".weight_zero_point", torch::kInt32, {quant::packed_words(m, format.bits), groups}});
}

/// As model::nf4_weight stores a matrix, with double quantization.
void add_nf4(Specs& specs, const Layer& layer) {
  constexpr int64_t kState = 160;  // bytes of its text, at most
  const std::string weight = layer.name + ".weight";
  const int64_t blocks = quant::blocks_of(layer.numel(), quant::kNf4Block);
  specs.push_back({weight, torch::kUInt8, {quant::nf4_bytes(layer.numel()), 1}});
  specs.push_back({weight + ".absmax", torch::kUInt8, {blocks}});
  specs.push_back({weight + ".quant_map", torch::kFloat32, {16}});
  specs.push_back({weight + ".nested_absmax",
                   torch::kFloat32,
                   {quant::blocks_of(blocks, quant::kNestedBlock)}});
  specs.push_back({weight + ".nested_quant_map", torch::kFloat32, {256}});
  specs.push_back({layer.name + std::string(io::kNf4StateEnd), torch::kUInt8, {kState}});
}

/// As model::Network says.
void add_network(Specs& specs, const LayerPlan& plan, torch::ScalarType dtype) {
  const auto& [out_dims, in_dims] = plan.shape;
  int64_t left = 1;
  for (size_t k = 0; k < out_dims.size(); ++k) {
    const bool last = k + 1 == out_dims.size();
    const int64_t right = last ? 1 : plan.max_bonds[k];
    const std::string number = std::to_string(k);
    const std::string core = plan.layer.name + ".cores." + number;
    if (plan.fixed_gauge && !last) {
      specs.push_back({core, dtype, {left * out_dims[k] * in_dims[k] - right, right}});
      specs.push_back({plan.layer.name + ".pivots." + number, torch::kInt32, {right}});
    } else {
      specs.push_back({core, dtype, {left, out_dims[k], in_dims[k], right}});
    }
    left = right;
  }
}

}  // namespace

StoredTensors dense_tensors(const model::ModelConfig& config) {
  const torch::ScalarType dtype = config.dtype.value_or(torch::kFloat32);
  StoredTensors tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    tensors[name] = {name, dtype, std::move(shape)};
  };
  const auto add_layer = [&](const model::LayerSpec& layer) {
    add(layer.name + ".weight", {layer.out_features, layer.in_features});
    if (layer.bias) add(layer.name + ".bias", {layer.out_features});
  };
  add_layer(model::embedding_layer(config));
  if (!model::has_tied_head(config)) add_layer(model::output_layer(config));
  for (const model::LayerSpec& layer : model::block_layers(config)) add_layer(layer);
  for (int64_t block = 0; block < config.num_layers; ++block) {
    for (const model::NormSpec& norm : model::block_norms(config, block)) {
      add(norm.name + ".weight", {norm.size});
    }
    for (const model::RouterSpec& router : model::block_routers(config, block)) {
      add(router.name + ".weight", {router.experts, config.hidden_size});
    }
  }
  add("model.norm.weight", {config.hidden_size});
  return tensors;
}

std::vector<io::TensorSpec> planned_tensors(const LayerPlan& plan, torch::ScalarType dtype) {
  const Layer& layer = plan.layer;
  Specs specs;
  const bool sum = plan.integers && plan.factor_integers;
  if (plan.integers) {
    add_integers(specs, sum ? model::term_name(layer.name, 0) : layer.name, layer.rows, layer.cols,
                 *plan.integers);
  }
  if (plan.factor_integers) {
    const std::string name = sum ? model::term_name(layer.name, 1) : layer.name;
    add_integers(specs, name + ".left", layer.rows, plan.rank(), plan.left_integers());
    add_integers(specs, name + ".right", plan.rank(), layer.cols, *plan.factor_integers);
  }
  if (plan.nf4) add_nf4(specs, layer);
  if (!plan.is_rounded()) add_network(specs, plan, dtype);
  std::ranges::sort(specs, {}, &io::TensorSpec::name);
  return specs;
}

std::vector<io::TensorSpec> written_tensors(const StoredTensors& model,
                                            const std::vector<LayerPlan>& plan,
                                            std::optional<torch::ScalarType> dtype) {
  std::map<std::string, Specs> replaced;  // by names of the model's tensors
  for (const LayerPlan& p : plan) {
    const auto stored = model.find(p.layer.members.front() + ".weight");
    const torch::ScalarType before = stored == model.end() ? torch::kFloat32 : stored->second.dtype;
    Specs specs = planned_tensors(p, dtype.value_or(before));
    std::vector<std::string> names;
    const bool stacked = p.layer.members.size() > 1;
    for (const std::string& member : p.layer.members) {
      names.push_back(member + ".weight");
      if (stacked && model.contains(member + ".bias")) names.push_back(member + ".bias");
    }
    if (stacked && model.contains(p.layer.members.front() + ".bias")) {
      specs.push_back({p.layer.name + ".bias", dtype.value_or(before), {p.layer.rows}});
      std::ranges::sort(specs, {}, &io::TensorSpec::name);
    }
    std::ranges::sort(names);
    for (const std::string& name : names) replaced[name];
    replaced[names.front()] = std::move(specs);
  }
  Specs written;
  for (const auto& [name, spec] : model) {
    if (const auto found = replaced.find(name); found != replaced.end()) {
      std::ranges::copy(found->second, std::back_inserter(written));
    } else {
      const bool floating = isFloatingType(spec.dtype);
      written.push_back({name, dtype && floating ? *dtype : spec.dtype, spec.shape});
    }
  }
  return written;
}

}  // namespace schmidt::plan
