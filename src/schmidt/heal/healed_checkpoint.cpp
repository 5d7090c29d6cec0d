#include "schmidt/heal/healed_checkpoint.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/model/network.h"
#include "schmidt/package/beside_weights.h"
#include "schmidt/tn/gauge.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;

/// A checkpoint's tensors as they are to be stored after training.
class HealedTensors {
 public:
  /// Says in `config` what became of the bonds.
  HealedTensors(const io::Checkpoint& checkpoint, const TrainedTensors& trained,
                nlohmann::json& config)
      : checkpoint_(checkpoint), trained_(trained) {
    for (const auto& [name, info] : checkpoint.tensors()) {
      specs_[name] = {name, info.dtype, info.shape};
    }
    for (const std::string& name : trained.names()) {
      TORCH_INTERNAL_ASSERT(specs_.contains(name), "trained but not stored: ", name);
    }
    if (!config.contains("compression_config")) return;
    for (auto& [name, form] : config["compression_config"]["layers"].items()) {
      if (form.contains("terms")) {
        for (size_t i = 0; i < form["terms"].size(); ++i) {
          add_network(form["terms"][i], fmt::format("{}.terms.{}", name, i));
        }
      } else {
        add_network(form, name);
      }
      // They told of the factorization, which is no longer what is stored.
      form.erase("relative_error");
      form.erase("weighted_error");
    }
  }

  std::vector<io::TensorSpec> specs() const {
    std::vector<io::TensorSpec> specs;
    for (const auto& [name, spec] : specs_) specs.push_back(spec);
    return specs;
  }

  torch::Tensor load(const io::TensorSpec& spec) {
    if (const auto network = network_of_.find(spec.name); network != network_of_.end()) {
      if (network->second != loaded_name_) {
        loaded_ = stored_tensors(network->second, load_network(network->second));
        loaded_name_ = network->second;
      }
      return loaded_.at(spec.name);
    }
    if (!trained_.contains(spec.name)) return checkpoint_.load(spec.name);
    return trained(spec.name).to(spec.dtype);
  }

 private:
  torch::Tensor trained(const std::string& name) const {
    torch::Tensor value = trained_.load(name);
    TORCH_CHECK_VALUE(at::isfinite(value).all().item<bool>(), "[heal] ", name,
                      " holds NaN or infinite values");
    return value;
  }

  void add_network(nlohmann::json& form, const std::string& name) {
    if (!trained_.contains(name + ".cores.0")) return;
    if (form.value("gauge", std::string()) == "fixed") fixed_.insert(name);
    const model::Network network = load_network(name);
    for (const auto& [tensor_name, tensor] : stored_tensors(name, network)) {
      specs_[tensor_name] = {tensor_name, tensor.scalar_type(), tensor.sizes().vec()};
      network_of_[tensor_name] = name;
    }
    form.update(model::network_form(network));
  }

  model::Network load_network(const std::string& name) const {
    std::vector<torch::Tensor> cores;
    while (true) {
      const std::string core = fmt::format("{}.cores.{}", name, cores.size());
      if (!trained_.contains(core)) break;
      cores.push_back(trained(core));
    }
    const tn::Mpo mpo(std::move(cores));
    return fixed_.contains(name) ? model::Network(tn::fix_gauge(mpo)) : model::Network(mpo);
  }

  std::map<std::string, torch::Tensor> stored_tensors(const std::string& name,
                                                      const model::Network& network) const {
    const torch::ScalarType dtype = checkpoint_.tensors().at(name + ".cores.0").dtype;
    std::map<std::string, torch::Tensor> tensors;
    for (const auto& [tensor_name, tensor] : model::network_tensors(name, network)) {
      tensors[tensor_name] = tensor.is_floating_point() ? tensor.to(dtype) : tensor;
    }
    return tensors;
  }

  const io::Checkpoint& checkpoint_;
  const TrainedTensors& trained_;
  std::map<std::string, io::TensorSpec> specs_;
  std::set<std::string> fixed_;                    // networks without gauge
  std::map<std::string, std::string> network_of_;  // by name of a tensor
  std::string loaded_name_;                        // the network whose tensors came last
  std::map<std::string, torch::Tensor> loaded_;
};

}  // namespace

package::ModelSummary write_healed(const io::Checkpoint& checkpoint, const TrainedTensors& trained,
                                   const nlohmann::json& made_by, const fs::path& folder) {
  nlohmann::json config = checkpoint.config();
  HealedTensors healed(checkpoint, trained, config);
  config["compression_config"]["made_by"].push_back(made_by);
  if (!config["compression_config"].contains("version")) {
    config["compression_config"]["version"] = 1;
  }
  const std::vector<io::TensorSpec> specs = healed.specs();
  io::SafetensorsWriter writer(folder, specs);
  for (const io::TensorSpec& spec : specs) writer.write(spec.name, healed.load(spec));
  writer.finish();
  return package::write_beside_weights(checkpoint, std::move(config), folder);
}

}  // namespace schmidt::heal
