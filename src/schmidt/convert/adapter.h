#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/convert/low_rank.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"
#include "schmidt/quant/format.h"

// The low ranks of a model as a LoRA adapter of scale 1 over its weights of full size (Hu et al.
// 2021, arXiv 2106.09685): W x = base x + (alpha / r) B A x, alpha = r.

namespace schmidt::convert {

/// Throws c10::ValueError where `program` holds several layers of the model as one tensor: an
/// adapter has no place for them. `instead` says what does.
void check_layers_stand_alone(const io::Checkpoint& checkpoint, const std::string& program,
                              const std::string& instead);

/// Writes them as llama.cpp reads an adapter: NAME.lora_a [r, n] and NAME.lora_b [m, r] in `type`.
/// A file has one alpha for all layers: the largest rank, B of layers of another rank times r /
/// alpha. `config` is the model's. Throws FormatError, SystemError; c10::ValueError for low ranks
/// that the type cannot hold.
void write_gguf_adapter(const io::Checkpoint& checkpoint, const model::ModelConfig& config,
                        const std::vector<LowRankGroup>& groups, const quant::Format& type,
                        const std::filesystem::path& file);

/// Writes adapter_config.json and adapter_model.safetensors of peft into `folder`, with r and alpha
/// of each layer; `base` is the name of the base model in it. Throws as write_gguf_adapter.
void write_peft_adapter(const io::Checkpoint& checkpoint, const std::vector<LowRankGroup>& groups,
                        torch::ScalarType dtype, const std::string& base,
                        const std::filesystem::path& folder);

/// Names of what write_gguf_adapter and write_peft_adapter stand beside.
inline constexpr const char* kBaseGguf = "base.gguf";
inline constexpr const char* kLowRankGguf = "lowrank.gguf";
inline constexpr const char* kBaseFolder = "base";

/// A folder that holds a base model and its adapter as GGUF, or as peft opens them.
FolderKind gguf_adapter_folder();
FolderKind peft_adapter_folder();

}  // namespace schmidt::convert
