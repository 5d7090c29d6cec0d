#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch/types.h>

namespace schmidt::io {

/// One entry of a safetensors header, checked against the file's size.
struct SafetensorsEntry {
  std::string dtype;  ///< "F32", "BF16", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;  ///< bytes from the start of the file
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
};

/// Parses and checks the header at the start of `bytes`, the mapped file.
/// Rejects what the reference implementation rejects: a header over 100 MB or
/// beyond the file, duplicate keys, holes, overlaps, overflow, trailing bytes.
/// `path` is for messages. Throws FormatError.
SafetensorsHeader parse_safetensors(std::string_view bytes, const std::filesystem::path& path);

/// What is to be written under one name.
struct TensorSpec {
  std::string name;
  torch::ScalarType dtype;
  std::vector<int64_t> shape;
};

/// Where a model's weights are written to, in whatever format: tensor after tensor, in an order
/// that was declared before.
class TensorWriter {
 public:
  virtual ~TensorWriter() = default;
  /// Throws c10::ValueError if it is not the next one declared; SystemError, a full disk too.
  virtual void write(const std::string& name, const torch::Tensor& tensor) = 0;
  /// Throws c10::ValueError if a declared tensor was not written.
  virtual void finish() = 0;
};

/// Writes a model's weights in a stream: one tensor in memory at a time, into
/// model.safetensors or, over `max_shard_bytes`, into numbered shards with
/// model.safetensors.index.json. Every file appears whole or not at all, fsynced,
/// and holds the bytes that the reference implementation writes for its tensors.
/// `folder` is new: files of an earlier model in it would stay beside the new ones.
class SafetensorsWriter : public TensorWriter {
 public:
  /// All tensors are declared first, since the header precedes the data.
  /// Throws c10::ValueError for a repeated name, SystemError from the disk.
  SafetensorsWriter(std::filesystem::path folder, std::vector<TensorSpec> specs,
                    std::map<std::string, std::string> metadata = {{"format", "pt"}},
                    uint64_t max_shard_bytes = 5'000'000'000);
  ~SafetensorsWriter() override;

  /// Tensors come in the order of the specs. Throws c10::ValueError if name,
  /// dtype or shape is not the next one declared; SystemError, a full disk too.
  void write(const std::string& name, const torch::Tensor& tensor) override;

  /// Closes the last shard and writes the index. Throws c10::ValueError if a
  /// declared tensor was not written.
  void finish() override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The tensors of one safetensors file whose names start with `prefix`, and one file of
/// given tensors: small files only (a layer's factors, test data).
std::map<std::string, torch::Tensor> load_safetensors(const std::filesystem::path& path,
                                                      std::string_view prefix = {});
void save_safetensors(const std::filesystem::path& path,
                      const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace schmidt::io
