#include "schmidt/convert/stored_groups.h"

#include <utility>

namespace schmidt::convert {

std::vector<StoredGroup> stored_groups(const model::ModelConfig& config,
                                       const std::filesystem::path& path) {
  model::check_compressed_names(config, path);
  std::vector<StoredGroup> stored;
  for (model::StorableLayer& storable : model::storable_layers(config)) {
    const auto form = config.compressed_layers.find(storable.layer.name);
    if (form == config.compressed_layers.end()) continue;
    stored.push_back({std::move(storable.layer), std::move(storable.members), *form});
  }
  return stored;
}

io::JsonRecord record_of(const StoredGroup& group, const std::filesystem::path& path) {
  return {group.form, "compression_config.layers." + group.layer.name, path};
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
