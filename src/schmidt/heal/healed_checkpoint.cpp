#include "schmidt/heal/healed_checkpoint.h"

#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include "schmidt/compress/beside_weights.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/network.h"
#include "schmidt/tn/gauge.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, torch::Tensor>;

/// Puts a network's trained cores among `changed` as the form wants them stored, and
/// says in the form what became of the bonds.
void store_network(nlohmann::json& form, const std::string& name, const Tensors& trained,
                   const io::Checkpoint& checkpoint, Tensors& changed) {
  std::vector<torch::Tensor> cores;
  while (true) {
    const auto core = trained.find(fmt::format("{}.cores.{}", name, cores.size()));
    if (core == trained.end()) break;
    cores.push_back(core->second.cpu());
  }
  if (cores.empty()) return;  // not trained
  const tn::Mpo mpo(std::move(cores));
  const bool fixed = form.value("gauge", std::string()) == "fixed";
  const model::Network network = fixed ? model::Network(tn::fix_gauge(mpo)) : model::Network(mpo);
  const torch::ScalarType dtype = checkpoint.tensors().at(name + ".cores.0").dtype;
  for (const auto& [tensor_name, tensor] : model::network_tensors(name, network)) {
    changed[tensor_name] = (tensor.is_floating_point() ? tensor.to(dtype) : tensor).contiguous();
  }
  form.update(model::network_form(network));
}

/// What is written in place of the checkpoint's tensors of the same name.
Tensors changed_tensors(const io::Checkpoint& checkpoint, const Tensors& trained,
                        nlohmann::json& config) {
  Tensors changed;
  if (config.contains("compression_config")) {
    for (auto& [name, form] : config["compression_config"]["layers"].items()) {
      if (form.contains("terms")) {
        for (size_t i = 0; i < form["terms"].size(); ++i) {
          store_network(form["terms"][i], fmt::format("{}.terms.{}", name, i), trained, checkpoint,
                        changed);
        }
      } else {
        store_network(form, name, trained, checkpoint, changed);
      }
      // They told of the factorization, which is no longer what is stored.
      form.erase("relative_error");
      form.erase("weighted_error");
    }
  }
  for (const auto& [name, value] : trained) {
    if (name.find(".cores.") != std::string::npos) continue;
    const auto stored = checkpoint.tensors().find(name);
    TORCH_INTERNAL_ASSERT(stored != checkpoint.tensors().end(), "trained but not stored: ", name);
    changed[name] = value.cpu().to(stored->second.dtype).contiguous();
  }
  return changed;
}

}  // namespace

compress::ModelSummary write_healed(const io::Checkpoint& checkpoint, const Tensors& trained,
                                    const nlohmann::json& made_by, const fs::path& folder) {
  for (const auto& [name, value] : trained) {
    TORCH_CHECK_VALUE(at::isfinite(value).all().item<bool>(), "[heal] ", name,
                      " holds NaN or infinite values");
  }
  nlohmann::json config = checkpoint.config();
  const Tensors changed = changed_tensors(checkpoint, trained, config);
  config["compression_config"]["made_by"].push_back(made_by);
  if (!config["compression_config"].contains("version")) {
    config["compression_config"]["version"] = 1;
  }

  std::vector<io::TensorSpec> specs;
  for (const auto& [name, info] : checkpoint.tensors()) {
    const auto found = changed.find(name);
    specs.push_back(found == changed.end() ? io::TensorSpec{name, info.dtype, info.shape}
                                           : io::TensorSpec{name, found->second.scalar_type(),
                                                            found->second.sizes().vec()});
  }
  io::SafetensorsWriter writer(folder, specs);
  for (const io::TensorSpec& spec : specs) {
    const auto found = changed.find(spec.name);
    writer.write(spec.name, found == changed.end() ? checkpoint.load(spec.name) : found->second);
  }
  writer.finish();
  return compress::write_beside_weights(checkpoint, std::move(config), folder);
}

}  // namespace schmidt::heal
