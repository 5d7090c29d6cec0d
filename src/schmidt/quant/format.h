#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace schmidt::quant {

/// How the values of a tensor are stored: rows cut into blocks of `values` neighbouring numbers,
/// each block `bytes` long with scales of its own. The layouts are ggml's (ggml-common.h), and
/// those of safetensors where a block is one plain number. A format is one file pair with its
/// layout, and one line of the table in formats.cpp.
///
/// Blocks may lie at any address, as in a mapped file.
struct Format {
  uint32_t ggml_type;     ///< the id in a GGUF file
  std::string_view name;  ///< "Q4_0"; the name in GGUF and, for plain numbers, in safetensors
  int64_t values;         ///< of a block; 1 for plain numbers
  int64_t bytes;          ///< of a block

  /// count * values finite numbers to `count` blocks, to the bytes of ggml's reference
  /// (quantize_row_*_ref).
  void (*encode)(const float* values, int64_t count, uint8_t* blocks);

  /// `count` blocks to count * values numbers.
  void (*decode)(const uint8_t* blocks, int64_t count, float* values);

  /// sum_i w_i x_i, w the values of `count` blocks, x of as many numbers: the row of a
  /// matrix-vector product, summed in float64. What faster kernels are compared with.
  double (*dot)(const uint8_t* blocks, int64_t count, const float* x);
};

/// Every format that is known.
std::span<const Format> formats();

/// Null for one that is not among them.
const Format* find_format(uint32_t ggml_type);
const Format* find_format(std::string_view name);

/// "F32, F16, ...", for messages.
std::string format_names();

}  // namespace schmidt::quant
