#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/gguf.h"
#include "schmidt/io/gguf_writer.h"
#include "schmidt/quant/format.h"

namespace schmidt::convert {

/// The formats that matrices can be written in, as quant::formats() names them.
std::vector<std::string> written_gguf_types();

/// The one that a name in lower or upper case stands for, "q8_0". Throws c10::ValueError.
const quant::Format& written_gguf_type(const std::string& name);

/// `type` for a matrix, F32 for a vector. Throws c10::ValueError where blocks of the type do not
/// divide a row, naming the type of the nearest number of bits that fits; `name` is the layer's.
const quant::Format& gguf_type_for(const std::string& name, const std::vector<int64_t>& shape,
                                   const quant::Format& type);

/// Whether a tensor of the file is a router of experts: those stay in float32 in a file of any
/// type, as llama.cpp's do.
bool is_router(std::string_view gguf_name);

/// Throws FormatError for a weight of `model` that holds NaN or infinite numbers.
void check_finite(const torch::Tensor& weight, const std::string& name,
                  const std::filesystem::path& model);

/// A weight of `model` as the type stores it, row after row. Throws as check_finite, and
/// c10::ValueError for finite numbers that the type cannot hold.
std::string encode_weight(const torch::Tensor& weight, const quant::Format& type,
                          const std::string& name, const std::filesystem::path& model);

/// Says in `keys` which type most of the matrices' bytes are in: general.file_type, and
/// general.quantization_version where it is one of blocks.
void add_file_type(std::map<std::string, io::GgufValue>& keys,
                   const std::vector<io::GgufTensorSpec>& specs);

}  // namespace schmidt::convert
