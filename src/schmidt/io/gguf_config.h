#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "schmidt/io/gguf.h"

namespace schmidt::io {

/// A value of general.architecture and what Hugging Face calls it.
struct GgufArchitecture {
  std::string_view name;        ///< also the prefix of its metadata
  std::string_view model_type;  ///< config.json's
  std::string_view model_class;
  bool interleaved_qk = false;  ///< see GgufWeight
};

/// Throws FormatError for one that is not known.
const GgufArchitecture& gguf_architecture(const GgufFile& file);

/// The one that models of that type in config.json have; null for a type that is not known.
const GgufArchitecture* find_gguf_architecture(std::string_view model_type);

/// "llama, qwen2 or mistral", all of them.
std::string known_gguf_model_types();

/// config.json as transformers reads it, made from metadata and tensor shapes.
/// Float32 metadata becomes the shortest decimal that gives the same float32: 1e-05.
/// - A model without output.weight ties its embedding.
/// - "llama" with attention.sliding_window is a Mistral; without one the two
///   compute the same and it stays a Llama.
/// - torch_dtype is the embedding's after decoding.
/// - rope_scaling is that of the metadata. Llama 3.1's has no metadata in GGUF, only
///   its factors per frequency, rope_freqs.weight: the common parameters (low 1,
///   high 4, original context 8192) and the factor are taken if they give that tensor.
/// Throws FormatError where a value is missing, no positive number, or contradicts another.
nlohmann::json config_from_gguf(const GgufFile& file);

/// bos_token_id, eos_token_id (a list where the end of a turn, or of a message that a tool answers,
/// is another token than that of a text) and pad_token_id, as far as the metadata has them.
nlohmann::json generation_config_from_gguf(const GgufFile& file);

}  // namespace schmidt::io
