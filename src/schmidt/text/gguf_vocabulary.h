#pragma once

#include <nlohmann/json.hpp>

#include "schmidt/io/gguf.h"

namespace schmidt::text {

/// A GGUF file's tokenizer.ggml.* metadata in Hugging Face's terms.
struct GgufVocabulary {
  nlohmann::json tokenizer;          ///< tokenizer.json
  nlohmann::json tokenizer_config;   ///< tokenizer_config.json, chat template included
  nlohmann::json generation_config;  ///< bos_token_id and eos_token_id
  std::vector<std::string> notes;    ///< what was taken for granted, in full sentences
};

/// Byte-level BPE ("gpt2" with the pre-tokenizers of byte_level_kinds.h, and llama.cpp's default
/// with a note where none is named) and SentencePiece BPE ("llama"), whose merges are derived from
/// the pieces' scores. Throws FormatError for other kinds, and for lists whose lengths differ.
GgufVocabulary read_gguf_vocabulary(const io::GgufFile& file);

}  // namespace schmidt::text
