#include "schmidt/convert/dense.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/zeros.h>

#include "schmidt/convert/low_rank.h"
#include "schmidt/io/dtype_names.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/quantized_projection.h"

namespace schmidt::convert {
namespace {

using nlohmann::json;

/// Layers of pruned MLPs, by name, in the size of the model's largest MLP: neurons of zeros make
/// all of one size, as the architecture has them.
std::map<std::string, model::LayerSpec> padded_layers(model::ModelConfig config) {
  std::map<std::string, model::LayerSpec> padded;
  const std::vector<int64_t> sizes = config.mlp_sizes;
  std::ranges::fill(config.mlp_sizes, std::ranges::max(sizes));
  for (int64_t block = 0; block < config.num_layers; ++block) {
    if (sizes[static_cast<size_t>(block)] == config.mlp_sizes.front()) continue;
    for (const auto kind : {model::Group::kGateUp, model::Group::kDown}) {
      for (model::LayerSpec& layer : model::group_layers(config, block, kind)) {
        padded[layer.name] = std::move(layer);
      }
    }
  }
  return padded;
}

/// Filled up by zeros at the ends.
torch::Tensor padded_to(const torch::Tensor& tensor, const std::vector<int64_t>& shape) {
  if (tensor.sizes() == shape) return tensor;
  torch::Tensor wide = at::zeros(shape, tensor.options());
  torch::Tensor corner = wide;
  for (int64_t d = 0; d < tensor.dim(); ++d) corner = corner.narrow(d, 0, tensor.size(d));
  corner.copy_(tensor);
  return wide;
}

/// The members' weights, and their biases where these are stored as one.
std::vector<io::TensorSpec> specs_of(const StoredGroup& group, bool bias, torch::ScalarType dtype,
                                     torch::ScalarType bias_dtype,
                                     const std::map<std::string, model::LayerSpec>& padded) {
  std::vector<io::TensorSpec> specs;
  for (const model::LayerSpec& member : group.members) {
    const auto larger = padded.find(member.name);
    const model::LayerSpec& layer = larger != padded.end() ? larger->second : member;
    specs.push_back({layer.name + ".weight", dtype, {layer.out_features, layer.in_features}});
    if (bias) specs.push_back({layer.name + ".bias", bias_dtype, {layer.out_features}});
  }
  return specs;
}

/// W [m, n] as the sum of the terms that are written of a layer.
torch::Tensor matrix_of(const io::Checkpoint& checkpoint, const std::vector<StoredGroup>& terms) {
  const model::Weights weights(checkpoint, {.dtype = torch::kFloat32});
  torch::Tensor matrix;
  for (const StoredGroup& term : terms) {
    model::LayerSpec layer = term.layer;
    layer.bias = false;
    const torch::Tensor part = model::load_layer({layer, term.form}, weights)->weight();
    matrix = matrix.defined() ? matrix + part : part;
  }
  return matrix;
}

std::vector<model::NamedTensor> unfolded(const io::Checkpoint& checkpoint, const StoredGroup& group,
                                         const std::vector<StoredGroup>& terms,
                                         const std::vector<io::TensorSpec>& specs) {
  const torch::Tensor matrix = matrix_of(checkpoint, terms);
  const bool bias = specs.size() > group.members.size();
  const torch::Tensor stacked_bias =
      bias ? checkpoint.load(group.layer.name + ".bias") : torch::Tensor();
  std::vector<model::NamedTensor> tensors;
  int64_t row = 0;
  auto spec = specs.begin();
  for (const model::LayerSpec& member : group.members) {
    const auto part = [&](const torch::Tensor& of) {
      const torch::Tensor rows = of.narrow(0, row, member.out_features).to(spec->dtype);
      tensors.push_back({spec->name, padded_to(rows, spec->shape)});
      ++spec;
    };
    part(matrix);
    if (bias) part(stacked_bias);
    row += member.out_features;
  }
  return tensors;
}

bool is_integers(const std::vector<StoredGroup>& terms) {
  return terms.size() == 1 && terms.front().members.size() == 1 &&
         terms.front().form.value("kind", "") == model::kQuantizedKind.name;
}

}  // namespace

void erase_stored_forms(nlohmann::json& config) {
  for (const char* key : {"compression_config", "quantization_config", "auto_map"}) {
    config.erase(key);
  }
}

torch::ScalarType dense_dtype(const io::Checkpoint& checkpoint) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  const auto norm = checkpoint.tensors().find("model.norm.weight");
  const torch::ScalarType stored =
      norm == checkpoint.tensors().end() ? torch::kFloat32 : norm->second.dtype;
  const torch::ScalarType dtype = config.dtype.value_or(stored);
  return dtype == torch::kFloat16 || dtype == torch::kBFloat16 ? dtype : torch::kFloat32;
}

DenseModel dense_model(const io::Checkpoint& checkpoint, const DenseOptions& options) {
  const model::ModelConfig model = model::parse_config(checkpoint.config(), checkpoint.path());
  const torch::ScalarType of_model = options.dtype.value_or(dense_dtype(checkpoint));
  const auto stored_in = [dtype = options.dtype](const std::string&, const io::TensorInfo& info) {
    return dtype && isFloatingType(info.dtype) ? *dtype : info.dtype;
  };
  std::map<std::string, std::vector<StoredGroup>> bases;
  if (options.without_low_ranks) {
    for (LowRankGroup& split : low_rank_groups(model, checkpoint.path())) {
      bases[split.group.layer.name] = std::move(split.base);
    }
  }
  DenseModel dense{package::Rewrite(checkpoint, stored_in), checkpoint.config(), {}};
  const std::map<std::string, model::LayerSpec> padded = padded_layers(model);
  TORCH_CHECK_VALUE(!options.without_low_ranks || padded.empty(),
                    "[export] expected MLPs of one size beneath an adapter, got pruned ones in ",
                    checkpoint.path().string(), "; a dense model or one GGUF file holds them");
  std::set<std::string> stored_otherwise;
  for (const StoredGroup& group : stored_groups(model, checkpoint.path())) {
    std::vector<std::string> names = group_tensors(checkpoint, group);
    const auto fused_bias = checkpoint.tensors().find(group.layer.name + ".bias");
    const bool bias = group.members.size() > 1 && fused_bias != checkpoint.tensors().end();
    if (bias) names.push_back(fused_bias->first);
    const torch::ScalarType bias_dtype =
        bias ? stored_in(fused_bias->first, fused_bias->second) : of_model;
    const auto base = bases.find(group.layer.name);
    const std::vector<StoredGroup> terms =
        base != bases.end() ? base->second : std::vector<StoredGroup>{group};
    auto specs = specs_of(group, bias, of_model, bias_dtype, padded);
    for (const io::TensorSpec& spec : specs) stored_otherwise.insert(spec.name);
    if (is_integers(terms) && !padded.contains(group.members.front().name)) {
      dense.integers.emplace(group.layer.name + ".weight", terms.front());
      if (options.stays_integers && options.stays_integers(terms.front())) {
        dense.weights.replace(names, specs, [name = specs.front().name] {
          return std::vector<model::NamedTensor>{{name, {}}};
        });
        continue;
      }
    }
    dense.weights.replace(names, specs, [checkpoint, group, terms, specs] {
      return unfolded(checkpoint, group, terms, specs);
    });
  }
  for (const auto& [layer, larger] : padded) {
    const auto pad = [&](const std::string& name, std::vector<int64_t> shape) {
      const auto found = checkpoint.tensors().find(name);
      if (found == checkpoint.tensors().end() || stored_otherwise.contains(name)) return;
      const io::TensorSpec spec{name, stored_in(name, found->second), std::move(shape)};
      dense.weights.replace({name}, {spec}, [checkpoint, spec] {
        const torch::Tensor whole = checkpoint.load(spec.name).to(spec.dtype);
        return std::vector<model::NamedTensor>{{spec.name, padded_to(whole, spec.shape)}};
      });
    };
    pad(layer + ".weight", {larger.out_features, larger.in_features});
    pad(layer + ".bias", {larger.out_features});
  }
  if (!model.experts) dense.config["intermediate_size"] = std::ranges::max(model.mlp_sizes);
  erase_stored_forms(dense.config);
  // A compressed head beside a tied embedding becomes a head of its own.
  if (model.tie_embeddings) dense.config["tie_word_embeddings"] = model::has_tied_head(model);
  io::name_dtype(dense.config, of_model);
  return dense;
}

}  // namespace schmidt::convert
