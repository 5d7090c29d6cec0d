#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/encoded_tensor.h"

namespace schmidt::io {

/// What is known of a stored tensor without reading its data.
struct TensorInfo {
  std::vector<int64_t> shape;
  torch::ScalarType dtype;  ///< what `load` gives: block formats and FP8 become float32
  std::string stored_as;    ///< the file's own name of the format: "BF16", "F8_E4M3", "Q4_1"
  uint64_t bytes = 0;       ///< on disk, scales included
};

/// A model on disk, opened for reading: a Hugging Face folder (model.safetensors,
/// or shards with an index) or a GGUF file, with one view of both. Names,
/// layouts and config are those of Hugging Face: GGUF's names are translated, its
/// block formats decoded and llama's permuted q/k rows put back in order; FP8 weights come
/// times their scales, which are no tensors of their own, and config names no quantization.
/// Data is memory-mapped and read tensor by tensor. Cheap to copy.
class Checkpoint {
 public:
  /// A path, or an id of the hub ("ORG/NAME", "ORG/NAME@REVISION") that its local cache holds.
  /// Throws c10::ValueError if there is no such model, FormatError for what a
  /// file holds, SystemError if it cannot be read.
  static Checkpoint open(const std::filesystem::path& name);

  /// Where it lies: never an id.
  const std::filesystem::path& path() const;
  bool is_gguf() const;

  /// What the user should hear of this model, once: a sentence each. Often empty.
  const std::vector<std::string>& notes() const;

  /// config.json, as it fits the tensors below; made from the metadata for GGUF.
  const nlohmann::json& config() const;
  /// generation_config.json; an empty object where there is none.
  const nlohmann::json& generation_config() const;

  const std::map<std::string, TensorInfo>& tensors() const;

  /// The tensor in the dtype that its TensorInfo names, on the CPU, in memory of its own.
  /// Throws c10::ValueError if there is no tensor of that name.
  torch::Tensor load(const std::string& name) const;

  /// The tensor in the format that it is stored in, so that a Q4_0 weight can be held as Q4_0;
  /// its rows in Hugging Face's order, and mapped where the file has them so. Valid without this.
  /// Throws c10::ValueError if there is no tensor of that name, or its format is none of
  /// quant::formats() (integers, float64, FP8).
  EncodedTensor load_encoded(const std::string& name) const;

  /// What the file holds of it, mapped: its values and, where it has some, their scales.
  /// Valid as long as a copy of this lives. Throws as `load`.
  std::vector<std::string_view> stored_bytes(const std::string& name) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace schmidt::io
