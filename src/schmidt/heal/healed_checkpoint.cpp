#include "schmidt/heal/healed_checkpoint.h"

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/ops/isfinite.h>

#include "schmidt/model/layer_kinds.h"
#include "schmidt/package/rewrite.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;

torch::Tensor finite(const TrainedTensors& trained, const std::string& name) {
  torch::Tensor value = trained.load(name);
  TORCH_CHECK_VALUE(at::isfinite(value).all().item<bool>(), "[heal] ", name,
                    " holds NaN or infinite values");
  return value;
}

/// Names of the tensors of one compressed weight.
std::vector<std::string> names_of(const std::string& layer, std::vector<std::string> names) {
  std::erase_if(names, [&](const std::string& name) {
    return !name.starts_with(layer + ".") || name == layer + ".bias";
  });
  return names;
}

std::vector<std::string> stored_names(const io::Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const auto& [name, info] : checkpoint.tensors()) names.push_back(name);
  return names;
}

/// Of the first that the checkpoint has; codes that are trained stand under a name of their own.
torch::ScalarType dtype_of_stored(const io::Checkpoint& checkpoint,
                                  const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto info = checkpoint.tensors().find(name);
    if (info != checkpoint.tensors().end()) return info->second.dtype;
  }
  return torch::kFloat32;
}

/// `checkpoint` with what was trained; says in `config` what became of the layers' forms.
package::Rewrite rewrite_of(const io::Checkpoint& checkpoint, const TrainedTensors& trained,
                            nlohmann::json& config) {
  package::Rewrite rewrite(checkpoint);
  std::vector<std::string> stored = stored_names(checkpoint), left = trained.names();
  for (auto& [layer, form] : config["compression_config"]["layers"].items()) {
    const std::vector<std::string> names = names_of(layer, left);
    if (!names.empty()) {
      std::erase_if(left, [&](const auto& name) { return std::ranges::count(names, name) > 0; });
      const torch::ScalarType dtype = dtype_of_stored(checkpoint, names);
      const auto packed = [&trained, &checkpoint, layer, names, dtype, before = form] {
        model::StoredWeight weight{before, {}};
        for (const std::string& name : names) {
          weight.tensors.push_back({name, finite(trained, name)});
        }
        model::StoredWeight result = model::pack_weight(layer, weight, {.dtype = dtype});
        for (model::NamedTensor& t : result.tensors) {
          if (!t.tensor.defined()) t.tensor = checkpoint.load(t.name);
        }
        return result;
      };
      const model::StoredWeight weight = packed();
      form.update(weight.form);
      rewrite.replace(names_of(layer, stored), package::specs_of(weight.tensors),
                      [packed] { return packed().tensors; });
    }
    // They told of the factorization, which is no longer what is stored.
    form.erase("relative_error");
    form.erase("weighted_error");
    form.erase("rounding_error");
    form.erase("block_error");
    form.erase("block_error_before");
  }
  for (const std::string& name : left) {
    const auto info = checkpoint.tensors().find(name);
    TORCH_INTERNAL_ASSERT(info != checkpoint.tensors().end(), "trained but not stored: ", name);
    const torch::ScalarType dtype = info->second.dtype;
    rewrite.replace({name}, {{name, dtype, info->second.shape}}, [&trained, name, dtype] {
      return std::vector<model::NamedTensor>{{name, finite(trained, name).to(dtype)}};
    });
  }
  return rewrite;
}

}  // namespace

package::ModelSummary write_healed(const io::Checkpoint& checkpoint, const TrainedTensors& trained,
                                   const nlohmann::json& made_by, const fs::path& folder) {
  nlohmann::json config = checkpoint.config();
  nlohmann::json& object = config["compression_config"];
  if (!object.contains("version")) object["version"] = 1;
  if (!object.contains("layers")) object["layers"] = nlohmann::json::object();
  const package::Rewrite rewrite = rewrite_of(checkpoint, trained, config);
  object["made_by"].push_back(made_by);
  return package::write_checkpoint(checkpoint, rewrite, config, folder);
}

}  // namespace schmidt::heal
