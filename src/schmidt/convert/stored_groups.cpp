#include "schmidt/convert/stored_groups.h"

#include "schmidt/base/format_error.h"

namespace schmidt::convert {
namespace {

/// Every layer that may have a form of its own.
std::vector<StoredGroup> candidates(const model::ModelConfig& config) {
  std::vector<StoredGroup> all;
  for (const model::LayerSpec& layer :
       {model::embedding_layer(config), model::output_layer(config)}) {
    all.push_back({layer, {layer}, {}});
  }
  for (int64_t block = 0; block < config.num_layers; ++block) {
    for (const model::Group group : model::kGroups) {
      const std::vector<model::LayerSpec> members = model::group_layers(config, block, group);
      for (const model::LayerSpec& member : members) all.push_back({member, {member}, {}});
      if (const auto fused = model::fused_layer(members)) all.push_back({*fused, members, {}});
    }
  }
  return all;
}

}  // namespace

std::vector<StoredGroup> stored_groups(const model::ModelConfig& config,
                                       const std::filesystem::path& path) {
  std::vector<StoredGroup> stored;
  for (StoredGroup& group : candidates(config)) {
    const auto form = config.compressed_layers.find(group.layer.name);
    if (form == config.compressed_layers.end()) continue;
    group.form = *form;
    stored.push_back(std::move(group));
  }
  if (stored.size() == config.compressed_layers.size()) return stored;
  for (const auto& [name, form] : config.compressed_layers.items()) {
    const auto is_it = [&n = name](const StoredGroup& group) { return group.layer.name == n; };
    if (std::ranges::any_of(stored, is_it)) continue;
    throw FormatError(path, "compression_config.layers." + name,
                      "expected a linear layer of the model, found no such layer");
  }
  return stored;
}

std::vector<std::string> group_tensors(const io::Checkpoint& checkpoint, const StoredGroup& group) {
  const std::string prefix = group.layer.name + ".";
  std::vector<std::string> names;
  for (auto at = checkpoint.tensors().lower_bound(prefix);
       at != checkpoint.tensors().end() && at->first.starts_with(prefix); ++at) {
    if (at->first != prefix + "bias") names.push_back(at->first);
  }
  return names;
}

}  // namespace schmidt::convert
