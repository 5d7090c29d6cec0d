#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/safetensors.h"

namespace schmidt::package {

/// Dense tensors of layers that the architecture holds as one (io::fused_modules), put together on
/// their way to a file: where all members of a module have one, of the same type, the file has the
/// module's in the place of the last. Members wait for it in memory.
class FusedTensors {
 public:
  /// For tensors of these specs, in this order.
  FusedTensors(const nlohmann::json& config, const std::vector<io::TensorSpec>& specs);

  /// What the file has.
  const std::vector<io::TensorSpec>& specs() const { return specs_; }

  /// A writer of the tensors as they are, which writes to `out`. Valid as long as this and `out`.
  class Writer : public io::TensorWriter {
   public:
    Writer(const FusedTensors& fused, io::TensorWriter& out) : fused_(fused), out_(out) {}
    void write(const std::string& name, const torch::Tensor& tensor) override;
    void finish() override { out_.finish(); }

   private:
    const FusedTensors& fused_;
    io::TensorWriter& out_;
    std::map<std::string, torch::Tensor> waiting_;
  };

 private:
  std::vector<io::TensorSpec> specs_;
  std::map<std::string, std::string> module_of_;                // member -> fused tensor
  std::map<std::string, std::vector<std::string>> members_of_;  // fused tensor -> members
};

}  // namespace schmidt::package
