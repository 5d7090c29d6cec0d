#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::text {

/// A piece of a SentencePiece model.
struct SentencePiecePiece {
  std::string text;
  float score = 0;
  int64_t type = 1;  ///< 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
};

/// What a tokenizer.model says that SentencePiece's library does not tell.
struct SentencePieceFile {
  std::vector<SentencePiecePiece> pieces;
  bool is_bpe = false;           ///< merges by score, where other models weigh whole texts
  bool add_dummy_prefix = true;  ///< a space before the text
};

/// Reads the protocol buffer (sentencepiece_model.proto: pieces = 1, trainer_spec = 2,
/// normalizer_spec = 3). `path` is for messages. Throws FormatError.
SentencePieceFile read_sentencepiece_file(std::string_view bytes,
                                          const std::filesystem::path& path);

}  // namespace schmidt::text
