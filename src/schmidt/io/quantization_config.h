#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::io {

/// The part of a weight [m, n] that shares one scale, `rows` by `columns`; 0 stands for
/// all of them. {0, 0} is one scale for the tensor, {1, 0} one for each output channel.
struct ScaleBlock {
  int64_t rows = 0;
  int64_t columns = 0;
};

/// Integers in the layout "pack-quantized" of compressed-tensors, and what has them.
struct PackedScheme {
  int bits = 4;       ///< one of quant::kIntegerWidths
  int64_t group = 0;  ///< columns that share a scale; 0: a row
  bool symmetric = true;
  std::vector<std::string> targets;  ///< "Linear", names of modules, "re:" and an expression
};

/// What a Hugging Face folder says of weights that another tool has stored in fewer bits. Three
/// formats are read: FP8, where a weight is its stored values times their scales, packed integers
/// of compressed-tensors, and NF4 of bitsandbytes, of which all is said beside its tensors.
struct WeightQuantization {
  bool declared = false;             ///< FP8, where true
  std::vector<ScaleBlock> blocks;    ///< those that the scales of this model may have
  std::vector<PackedScheme> packed;  ///< integers
};

/// Reads quantization_config (compression_config in older files of compressed-tensors) and
/// takes it out of `config`, which then describes the weights as they are read; where there
/// is none, `hf_quant_config`, the content of the file of that name (ModelOpt), counts.
/// Formats: transformers' fp8 and fbgemm_fp8, float-quantized and pack-quantized of
/// compressed-tensors, FP8 of ModelOpt, NF4 of bitsandbytes. Throws FormatError for any other, by
/// its name, and for a config that is none. `folder` is for messages.
WeightQuantization take_quantization(nlohmann::json& config, const nlohmann::json& hf_quant_config,
                                     const std::filesystem::path& folder);

/// The name of the format that has tensors of this name, where it is one that is not read:
/// "model.layers.0.mlp.up_proj.qweight" is of GPTQ or AWQ. Empty for all others.
std::string_view unread_format_of(std::string_view tensor);

}  // namespace schmidt::io
