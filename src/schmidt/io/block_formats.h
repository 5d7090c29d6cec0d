#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace schmidt::io {

/// How ggml stores the values of a tensor: rows cut into blocks of `values`
/// neighbouring numbers, each block `bytes` long with scales of its own.
/// The layouts are those of ggml's block_* structs (ggml-common.h).
struct BlockFormat {
  uint32_t ggml_type;     ///< the id in the file
  std::string_view name;  ///< "Q4_1"
  int64_t values;         ///< per block; 1 for plain numbers
  int64_t bytes;          ///< per block

  /// `count` blocks to count * values numbers. Null for F32, F16 and BF16, which
  /// are kept as they are.
  void (*decode)(const uint8_t* blocks, int64_t count, float* out);
};

/// Every format that is read.
std::span<const BlockFormat> block_formats();

/// Null for an id that is not among them.
const BlockFormat* find_block_format(uint32_t ggml_type);

/// "F32, F16, ...", for messages.
std::string block_format_names();

}  // namespace schmidt::io
