#include "schmidt/plan/outline.h"

#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include "schmidt/base/file_system.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/json.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/package/summary.h"

namespace schmidt::plan {
namespace fs = std::filesystem;

Outline outline(const nlohmann::json& config, const fs::path& path) {
  Outline outline{path, model::parse_config(config, path), {}, 0, {}, {}, {}};
  TORCH_CHECK_VALUE(outline.config.compressed_layers.empty(), "[plan] ", path.string(),
                    " is of a compressed model; expected its weights beside it");
  outline.layers = layers_of(outline.config);
  outline.parameters = parameter_count(outline.config);
  outline.tensors = dense_tensors(outline.config);
  return outline;
}

int64_t parameter_count(const model::ModelConfig& config) {
  int64_t count = 0;
  for (const auto& [name, spec] : dense_tensors(config))
    count += c10::multiply_integers(spec.shape);
  return count;
}

Outline outline(const io::Checkpoint& checkpoint) {
  const std::vector<Layer> layers = dense_layers(checkpoint);
  StoredTensors tensors;
  for (const auto& [name, info] : checkpoint.tensors()) {
    tensors[name] = {name, info.dtype, info.shape};
  }
  return {checkpoint.path(),
          model::parse_config(checkpoint.config(), checkpoint.path()),
          layers,
          package::summarize(checkpoint).parameters,
          package::fingerprint(checkpoint),
          checkpoint.notes(),
          std::move(tensors)};
}

Outline open_outline(const fs::path& name) {
  const fs::path path = io::locate_model(name);
  const auto from_config = [](const fs::path& file) {
    return outline(io::read_json_object(file), file);
  };
  if (is_plain_file(path) && path.extension() == ".json") return from_config(path);
  const bool weights = !is_folder(path) || path_exists(path / "model.safetensors") ||
                       path_exists(path / "model.safetensors.index.json");
  if (!weights && path_exists(path / "config.json")) return from_config(path / "config.json");
  return outline(io::Checkpoint::open(path));
}

}  // namespace schmidt::plan
