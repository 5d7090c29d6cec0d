#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/base/progress.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/safetensors_layout.h"
#include "schmidt/model/named_tensor.h"
#include "schmidt/package/summary.h"

namespace schmidt::package {

/// A checkpoint with some of its tensors replaced by others: what compression, healing and
/// every other change of a model writes. One tensor, or one replacement, is in memory at a time.
class Rewrite {
 public:
  /// What a tensor that is copied is stored in, by its name.
  using DtypeOf = std::function<torch::ScalarType(const std::string&, const io::TensorInfo&)>;

  /// Without `dtype` tensors stay in their types.
  explicit Rewrite(const io::Checkpoint& original, DtypeOf dtype = {});

  /// The tensors that `load` gives stand where the first of `names` stood, none of which is
  /// copied; `specs` are theirs. `load` is called when they are written.
  /// Throws c10::ValueError if the original has none of the names, or one was replaced before.
  void replace(const std::vector<std::string>& names, std::vector<io::TensorSpec> specs,
               std::function<std::vector<model::NamedTensor>()> load);

  /// What a tensor of the original that is copied would be stored in.
  torch::ScalarType dtype_of(const std::string& name) const;

  /// What will be stored, in the order of the file.
  std::vector<io::TensorSpec> specs() const;

  /// Throws SystemError from the disk, and what the loading of a replacement throws.
  void write_to(io::TensorWriter& writer, const ProgressFn& progress = {}) const;

 private:
  struct Replacement {
    std::vector<io::TensorSpec> specs;
    std::function<std::vector<model::NamedTensor>()> load;
  };

  io::Checkpoint original_;
  DtypeOf dtype_;
  std::map<std::string, Replacement> replacements_;  // by the first name
  std::set<std::string> replaced_;
};

/// Specs of tensors at hand.
std::vector<io::TensorSpec> specs_of(const std::vector<model::NamedTensor>& tensors);

/// The checkpoint folder of a rewritten model: its weights as safetensors in the empty `folder`,
/// and what stands beside them (write_beside_weights). `metadata` is what its headers say.
/// Throws as these do.
ModelSummary write_checkpoint(
    const io::Checkpoint& original, const Rewrite& rewrite, nlohmann::json config,
    const std::filesystem::path& folder, const ProgressFn& progress = {},
    const std::map<std::string, std::string>& metadata = io::kModelMetadata);

}  // namespace schmidt::package
