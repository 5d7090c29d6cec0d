#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "schmidt/io/gguf.h"

namespace schmidt::io {

/// What one GGUF file holds.
struct GgufContent {
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, GgufTensor> tensors;
};

/// Reads and checks a file's head, and places its tensors in `bytes`, the whole file.
/// `path` is for messages. Throws FormatError.
GgufContent read_gguf(std::string_view bytes, const std::filesystem::path& path);

}  // namespace schmidt::io
