#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "schmidt/io/gguf.h"

namespace schmidt::text {

/// The tokenizer.ggml.* metadata by which llama.cpp, and read_gguf_vocabulary, give the ids of the
/// tokenizer in `folder`: tokens, their types, merges or scores, special ids, the chat template.
/// `rows` is the size of the model's vocabulary; ids without a token become unused, "[PAD7]".
///
/// Byte-level BPE whose way of cutting words llama.cpp has a name for, and SentencePiece's BPE from
/// tokenizer.model, or from a tokenizer.json that says the same. Throws FormatError for other
/// kinds, and for a vocabulary larger than the model's; as Tokenizer::load.
std::map<std::string, io::GgufValue> gguf_keys(const std::filesystem::path& folder, int64_t rows);

}  // namespace schmidt::text
