#include "schmidt/package/fused_writer.h"

#include <algorithm>

#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "schmidt/io/fused_rows.h"

namespace schmidt::package {

FusedTensors::FusedTensors(const nlohmann::json& config, const std::vector<io::TensorSpec>& specs) {
  std::map<std::string, const io::TensorSpec*> by_name;
  for (const io::TensorSpec& spec : specs) by_name[spec.name] = &spec;
  for (const io::FusedModule& module : io::fused_modules(config)) {
    for (const io::TensorSpec& spec : specs) {
      for (const std::string_view end : {".weight", ".bias"}) {
        const std::string first = fmt::format(".{}{}", module.members.front().name, end);
        if (!spec.name.ends_with(first) || !isFloatingType(spec.dtype)) continue;
        const std::string parent = spec.name.substr(0, spec.name.size() - first.size());
        std::vector<std::string> members;
        for (const auto& member : module.members) {
          const std::string name = fmt::format("{}.{}{}", parent, member.name, end);
          const auto found = by_name.find(name);
          if (found == by_name.end() || found->second->dtype != spec.dtype) break;
          members.push_back(name);
        }
        if (members.size() < module.members.size()) continue;
        const std::string fused = fmt::format("{}.{}{}", parent, module.name, end);
        for (const std::string& member : members) module_of_[member] = fused;
        members_of_[fused] = std::move(members);
      }
    }
  }
  std::map<std::string, size_t> seen;
  for (const io::TensorSpec& spec : specs) {
    const auto fused = module_of_.find(spec.name);
    if (fused == module_of_.end()) {
      specs_.push_back(spec);
      continue;
    }
    const std::vector<std::string>& members = members_of_.at(fused->second);
    if (++seen[fused->second] < members.size()) continue;
    io::TensorSpec whole = {fused->second, spec.dtype, spec.shape};
    whole.shape.front() = 0;
    for (const std::string& member : members) whole.shape.front() += by_name[member]->shape.front();
    specs_.push_back(std::move(whole));
  }
}

void FusedTensors::Writer::write(const std::string& name, const torch::Tensor& tensor) {
  const auto fused = fused_.module_of_.find(name);
  if (fused == fused_.module_of_.end()) return out_.write(name, tensor);
  waiting_[name] = tensor;
  const std::vector<std::string>& members = fused_.members_of_.at(fused->second);
  std::vector<torch::Tensor> parts;
  for (const std::string& member : members) {
    const auto found = waiting_.find(member);
    if (found == waiting_.end()) return;
    parts.push_back(found->second);
  }
  for (const std::string& member : members) waiting_.erase(member);
  out_.write(fused->second, at::cat(parts));
}

}  // namespace schmidt::package
