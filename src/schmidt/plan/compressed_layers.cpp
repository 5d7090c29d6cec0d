#include "schmidt/plan/compressed_layers.h"

#include <algorithm>
#include <optional>

#include <c10/util/Exception.h>

#include "schmidt/model/layer_kinds.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::plan {
namespace {

std::optional<int64_t> rank_of(const model::WeightDescription& weight, const Layer& layer) {
  if (weight.networks.size() != 1 || !weight.label.empty()) return std::nullopt;
  const model::NetworkShape& network = weight.networks.front();
  if (network.bonds.size() != 1) return std::nullopt;
  const tn::SiteShape low_rank = tn::low_rank_shape(layer.rows, layer.cols);
  if (tn::SiteShape{network.out_dims, network.in_dims} != low_rank) return std::nullopt;
  return network.bonds.front();
}

void add(CompressedLayers& all, Layer layer, const model::ModelConfig& config,
         const std::filesystem::path& path) {
  const auto form = config.compressed_layers.find(layer.name);
  if (form == config.compressed_layers.end()) return;
  const model::WeightDescription weight = model::describe_weight(layer.name, *form, {}, path);
  if (const auto rank = rank_of(weight, layer)) {
    all.low_ranks.push_back({std::move(layer), *rank});
  } else if (!weight.networks.empty() && weight.label.empty()) {
    all.networks.push_back(std::move(layer));
  } else {
    all.others.push_back(std::move(layer));
  }
}

}  // namespace

CompressedLayers compressed_layers(const model::ModelConfig& config,
                                   const std::filesystem::path& path) {
  CompressedLayers all;
  const std::vector<Layer> layers = layers_of(config);
  for (Layer shared : share_inputs(layers)) {
    const std::vector<std::string> members = shared.members;
    if (members.size() > 1) {
      shared.members = {shared.name};
      add(all, std::move(shared), config, path);
    }
    for (const std::string& member : members) {
      add(all, *std::ranges::find(layers, member, &Layer::name), config, path);
    }
  }
  return all;
}

std::vector<std::string> weight_tensors(const io::Checkpoint& checkpoint, const Layer& layer) {
  std::vector<std::string> names;
  for (const std::string& member : layer.members) {
    if (checkpoint.tensors().contains(member + ".weight")) {
      names.push_back(member + ".weight");
      continue;
    }
    const std::string prefix = member + ".";
    for (auto found = checkpoint.tensors().lower_bound(prefix);
         found != checkpoint.tensors().end() && found->first.starts_with(prefix); ++found) {
      if (found->first != member + ".bias") names.push_back(found->first);
    }
  }
  return names;
}

torch::ScalarType weight_dtype(const io::Checkpoint& checkpoint, const Layer& layer) {
  for (const std::string& name : weight_tensors(checkpoint, layer)) {
    const torch::ScalarType dtype = checkpoint.tensors().at(name).dtype;
    if (isFloatingType(dtype)) return dtype;
  }
  TORCH_CHECK_VALUE(false, "[layers] expected a layer of ", checkpoint.path().string(), ", got ",
                    layer.name);
}

}  // namespace schmidt::plan
