#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/io/gguf.h"
#include "schmidt/quant/format.h"

namespace schmidt::io {

/// A tensor that a GGUF file is to hold.
struct GgufTensorSpec {
  std::string name;
  std::vector<int64_t> shape;  ///< row-major, as torch has it
  const quant::Format* format = nullptr;
};

/// Bytes of its data. Throws c10::ValueError for sizes below 1, more than four of them, a row that
/// is no multiple of a block, and an overflow.
uint64_t gguf_tensor_bytes(const GgufTensorSpec& spec);

/// Writes a GGUF file of version 3, little-endian, in a stream: the head with all metadata and the
/// table of tensors, then tensor after tensor, each at a multiple of general.alignment (32 where
/// the metadata has none). The file appears whole or not at all. What GgufFile reads back is equal.
///
/// Values without a type are stored as llama.cpp reads them: integers in 32 bits where they fit,
/// unsigned unless they are negative or in an array.
class GgufWriter {
 public:
  /// Throws c10::ValueError for a name twice, an alignment that is no power of two, and as
  /// gguf_tensor_bytes; SystemError from the disk.
  GgufWriter(const std::filesystem::path& path, const std::map<std::string, GgufValue>& metadata,
             std::vector<GgufTensorSpec> specs);
  ~GgufWriter();

  /// Tensors come in the order of the specs, encoded. Throws c10::ValueError if name or length is
  /// not the next one declared; SystemError, a full disk too.
  void write(const std::string& name, std::string_view bytes);

  /// Throws c10::ValueError if a declared tensor was not written; SystemError.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace schmidt::io
