#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/kernels/activations.h"
#include "schmidt/model/cache_type.h"

namespace schmidt::model {

/// What a network of several sites is held as.
enum class Networks {
  kAsStored,
  kCores,    ///< those of the full gauge, which are contracted with x
  kFastest,  ///< those, or the matrix where its product is faster and memory allows it
};

struct LoadOptions {
  /// float32 or bfloat16; float64 for weights that are looked at, not run.
  torch::ScalarType dtype = torch::kFloat32;
  /// On torch::kMeta shapes and types alone are read and checked, and no data: what is loaded
  /// can compute nothing.
  torch::Device device = torch::kCPU;
  /// Networks are read as plain cores, balanced as tn::balance does, for training in the
  /// full gauge. What is saved of such a model is in the full gauge too.
  bool free_gauge = false;
  /// As stored wherever what is loaded is trained or written.
  Networks networks = Networks::kAsStored;
  /// Integers of few bits are read with codes and zero points that can be trained (TrainedCodes).
  bool train_codes = false;
  /// What products of few rows with integers of few bits compute with.
  kernels::Activations activations = kernels::Activations::kExact;
  /// Likeliest tokens are searched for where that is faster than all logits (LikeliestSearch),
  /// which may round the output layer once. Only where the weights stay as they are.
  bool search_likeliest = false;
  /// What the model's caches hold keys and values in.
  CacheType cache_type = CacheType::kModel;
  /// The model whose weights they began as: where those lie between the codes is where training
  /// begins.
  std::optional<io::Checkpoint> original = {};
};

/// The stored tensors of a model, checked and converted as they are read. One at a
/// time is in memory twice.
class Weights {
 public:
  /// Throws c10::ValueError for a dtype that models do not run in.
  explicit Weights(const io::Checkpoint& checkpoint, const LoadOptions& options = {});

  /// Tensors already in memory. `path` is for messages.
  Weights(std::map<std::string, torch::Tensor> tensors, std::filesystem::path path,
          const LoadOptions& options = {});

  const std::filesystem::path& path() const { return path_; }
  const LoadOptions& options() const { return options_; }

  bool contains(const std::string& name) const { return shape_of(name).has_value(); }
  std::optional<std::vector<int64_t>> shape_of(const std::string& name) const;
  std::vector<std::string> names() const;

  /// Throws FormatError if the tensor is missing or has another shape.
  void require(const std::string& name, torch::IntArrayRef expected) const;

  /// The tensor in the model's dtype, on its device, in memory of its own.
  /// Throws FormatError if it is missing, has another shape than `expected`, is
  /// not of a floating type, or holds NaN or infinity.
  torch::Tensor read(const std::string& name, torch::IntArrayRef expected) const;

  /// Indices stored as int32, as int64 on the CPU.
  /// Throws FormatError if the tensor is missing, has another shape than `expected`
  /// or another type.
  torch::Tensor read_indices(const std::string& name, torch::IntArrayRef expected) const;

  /// The tensor in the type that it is stored in, which has to be `dtype` or, where that is none,
  /// a floating one without NaN and infinity. Throws FormatError as `read`.
  torch::Tensor read_stored(const std::string& name, torch::IntArrayRef expected,
                            std::optional<torch::ScalarType> dtype) const;

  /// The same as `read`, into existing memory of the expected shape.
  void read_into(const std::string& name, const torch::Tensor& destination) const;

 private:
  torch::Tensor load(const std::string& name) const;
  torch::Tensor load_checked(const std::string& name, torch::IntArrayRef expected) const;

  std::filesystem::path path_;
  LoadOptions options_;
  // One of the two. Weights are made anew for every layer: neither is copied then.
  std::optional<io::Checkpoint> checkpoint_;
  std::map<std::string, torch::Tensor> held_;
};

}  // namespace schmidt::model
