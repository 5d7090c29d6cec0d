#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "schmidt/io/safetensors.h"

namespace schmidt::io {

/// Where everything of one safetensors file goes. The same tensors and metadata
/// (one entry; more are sorted here and in no order there) give the reference
/// implementation's bytes: wide dtypes first, so that all data is aligned, equal
/// ones by name, and the header padded to a multiple of eight.
struct SafetensorsLayout {
  std::string head;               ///< the length and the header
  std::vector<uint64_t> offsets;  ///< from the start of the file, in the order of the specs
  uint64_t data_bytes = 0;
};

/// What the files of a model's weights say of themselves, and the data that one of several holds.
inline const std::map<std::string, std::string> kModelMetadata = {{"format", "pt"}};
constexpr uint64_t kMaxShardBytes = 5'000'000'000;

/// Bytes of all files that SafetensorsWriter makes of a model's weights, an index left out.
/// Throws c10::ValueError as the writer.
uint64_t written_bytes(const std::vector<TensorSpec>& specs);

/// Bytes of one tensor's data. Throws c10::ValueError for a negative size, an
/// overflow, or a dtype that safetensors does not have.
uint64_t tensor_bytes(const TensorSpec& spec);

/// Throws c10::ValueError for a repeated or reserved name, one that is not UTF-8,
/// and for what `tensor_bytes` refuses.
SafetensorsLayout lay_out(const std::vector<TensorSpec>& specs,
                          const std::map<std::string, std::string>& metadata);

}  // namespace schmidt::io
