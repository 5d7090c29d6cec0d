#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/text/added_tokens.h"

namespace schmidt::text {

/// A tokenizer.model of SentencePiece (Kudo & Richardson 2018, arXiv 1808.06226), of any
/// kind that the library knows. Immutable, safe to use from several threads.
class SentencePieceModel {
 public:
  /// `bytes` is the file's content; `path` is for messages. Throws FormatError.
  SentencePieceModel(std::string_view bytes, const std::filesystem::path& path);
  ~SentencePieceModel();
  SentencePieceModel(SentencePieceModel&&) noexcept;
  SentencePieceModel& operator=(SentencePieceModel&&) noexcept;

  /// Appends the ids of `text`. The model's leading space is added only `at_start`, so
  /// text behind a special token keeps the spaces it has (LlamaTokenizer with
  /// legacy=false).
  void encode(std::string_view text, bool at_start, std::vector<int64_t>& ids) const;

  /// The piece of each id.
  std::vector<std::string> pieces() const;

  /// Control symbols and the unknown one, as special tokens.
  std::vector<AddedToken> special_tokens() const;

  int64_t bos_id() const;  ///< -1 where there is none, as for `eos_id`
  int64_t eos_id() const;

 private:
  struct Processors;
  std::unique_ptr<Processors> processors_;
};

}  // namespace schmidt::text
