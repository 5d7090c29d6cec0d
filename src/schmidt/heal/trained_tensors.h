#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/heal/parameters.h"

namespace schmidt::heal {

/// What training made of a model's tensors, float32 under their names, in safetensors files
/// from which they are read one by one: all together may be more than a machine's memory.
class TrainedTensors {
 public:
  /// Of a name that several files hold, the first one's. Throws FormatError, SystemError.
  explicit TrainedTensors(const std::vector<std::filesystem::path>& files);

  static void save(const std::filesystem::path& file, const Parameters& parameters);

  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return files_.contains(name); }
  /// Throws std::out_of_range if there is none of that name.
  torch::Tensor load(const std::string& name) const;

 private:
  std::map<std::string, std::filesystem::path> files_;  // by name of a tensor
};

}  // namespace schmidt::heal
