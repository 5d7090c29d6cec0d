#pragma once

#include <nlohmann/json.hpp>

#include "schmidt/io/gguf.h"

namespace schmidt::io {

/// config.json as transformers reads it, made from metadata and tensor shapes.
/// Float32 metadata becomes the shortest decimal that gives the same float32: 1e-05.
/// - A model without output.weight ties its embedding.
/// - "llama" with attention.sliding_window is a Mistral; without one the two
///   compute the same and it stays a Llama. With experts it is a Mixtral.
/// - What llama.cpp's code of an architecture assumes without a key is written out: Gemma's caps,
///   the scale of its scores, the shares of Qwen's experts.
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
