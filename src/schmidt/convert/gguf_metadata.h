#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/io/gguf.h"
#include "schmidt/io/gguf_architecture.h"
#include "schmidt/model/config.h"

namespace schmidt::convert {

/// The GGUF architecture that computes what the model does. Throws c10::ValueError, naming the
/// layers or the setting, for what llama.cpp's code of that architecture (0.3.36 of
/// llama-cpp-python) does not compute: windows of some layers, biases that it does not read, heads
/// of another size than the model's, RoPE scaling "dynamic" and "yarn" without truncate.
const io::GgufArchitecture& gguf_architecture_of(const model::ModelConfig& config);

/// The names of the model's tensors in its file.
io::GgufNames gguf_names_of(const io::Checkpoint& checkpoint, const model::ModelConfig& config);

/// Heads whose rows llama.cpp's architecture holds interleaved in a tensor (io::GgufWeight), by
/// GGUF's name of it; 0 where rows are in order.
int64_t interleaved_heads(const std::string& gguf_name, const model::ModelConfig& config);

/// general.architecture, general.name and the keys of the architecture that llama.cpp reads: sizes,
/// norms, RoPE. config_from_gguf makes the same model of them.
std::map<std::string, io::GgufValue> gguf_model_keys(const io::Checkpoint& checkpoint,
                                                     const model::ModelConfig& config);

/// What a file holds of rotary frequencies beside the weights, by name, float32: kGgufRopeFactors
/// [head_dim / 2] of Llama 3.1's scaling, the factors of longrope. Empty for other scalings.
std::map<std::string, torch::Tensor> gguf_rope_factors(const model::ModelConfig& config);

/// What marks a GGUF file that schmidt wrote: a key of its metadata.
inline constexpr const char* kGgufMadeBy = "schmidt.made_by";

/// Whether a file has it. False for what cannot be read.
bool is_exported_gguf(const std::filesystem::path& file);

}  // namespace schmidt::convert
