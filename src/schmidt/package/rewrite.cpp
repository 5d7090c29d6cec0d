#include "schmidt/package/rewrite.h"

#include <algorithm>

#include "schmidt/package/beside_weights.h"
#include "schmidt/package/fused_writer.h"

namespace schmidt::package {

Rewrite::Rewrite(const io::Checkpoint& original, DtypeOf dtype)
    : original_(original), dtype_(std::move(dtype)) {
  if (!dtype_) dtype_ = [](const std::string&, const io::TensorInfo& info) { return info.dtype; };
}

void Rewrite::replace(const std::vector<std::string>& names, std::vector<io::TensorSpec> specs,
                      std::function<std::vector<model::NamedTensor>()> load) {
  std::string first;
  for (const std::string& name : names) {
    if (!original_.tensors().contains(name)) continue;
    TORCH_CHECK_VALUE(replaced_.insert(name).second, "[rewrite] ", name, " was replaced before");
    if (first.empty() || name < first) first = name;
  }
  TORCH_CHECK_VALUE(!first.empty(), "[rewrite] expected names of stored tensors, got none");
  replacements_[first] = {std::move(specs), std::move(load)};
}

torch::ScalarType Rewrite::dtype_of(const std::string& name) const {
  return dtype_(name, original_.tensors().at(name));
}

std::vector<io::TensorSpec> Rewrite::specs() const {
  std::vector<io::TensorSpec> specs;
  for (const auto& [name, info] : original_.tensors()) {
    if (const auto found = replacements_.find(name); found != replacements_.end()) {
      std::ranges::copy(found->second.specs, std::back_inserter(specs));
    } else if (!replaced_.contains(name)) {
      specs.push_back({name, dtype_(name, info), info.shape});
    }
  }
  return specs;
}

void Rewrite::write_to(io::TensorWriter& writer, const ProgressFn& progress) const {
  const auto total = static_cast<int64_t>(specs().size());
  int64_t written = 0;
  const auto write = [&](const std::string& name, const torch::Tensor& tensor) {
    if (progress) progress({"write", name, written++, total, "tensors"});
    writer.write(name, tensor);
  };
  for (const auto& [name, info] : original_.tensors()) {
    if (const auto found = replacements_.find(name); found != replacements_.end()) {
      for (const model::NamedTensor& t : found->second.load()) write(t.name, t.tensor);
    } else if (!replaced_.contains(name)) {
      write(name, original_.load(name).to(dtype_(name, info)));
    }
  }
  writer.finish();
}

std::vector<io::TensorSpec> specs_of(const std::vector<model::NamedTensor>& tensors) {
  std::vector<io::TensorSpec> specs;
  for (const model::NamedTensor& t : tensors) {
    specs.push_back({t.name, t.tensor.scalar_type(), t.tensor.sizes().vec()});
  }
  return specs;
}

ModelSummary write_checkpoint(const io::Checkpoint& original, const Rewrite& rewrite,
                              nlohmann::json config, const std::filesystem::path& folder,
                              const ProgressFn& progress,
                              const std::map<std::string, std::string>& metadata) {
  const FusedTensors fused(config, rewrite.specs());
  io::SafetensorsWriter file(folder, fused.specs(), metadata, io::kMaxShardBytes);
  FusedTensors::Writer writer(fused, file);
  rewrite.write_to(writer, progress);
  return write_beside_weights(original, std::move(config), folder);
}

}  // namespace schmidt::package
