#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace schmidt::text {

/// What a token is in tokenizer.ggml.token_type: llama.cpp's llama_token_type, and SentencePiece's
/// types of pieces.
enum TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

/// A row of the embedding that no token has: llama.cpp's converter names it to fill the list.
bool is_padding(const std::string& token, int64_t type, size_t id);

/// Tokens left and right that become one, the first in the list first.
using Merges = std::vector<std::pair<std::string, std::string>>;

/// The merges that SentencePiece's BPE makes implicitly: any two neighbours whose
/// concatenation is a piece, the highest score first; of equal scores the lower ids, as
/// transformers converts it. A type and a score for each token.
Merges merges_from_scores(const std::vector<std::string>& tokens, const std::vector<int64_t>& types,
                          const std::vector<float>& scores);

/// Scores of which merges_from_scores makes these merges, in any order among those of one result;
/// none where there are no such scores: a result that the list comes back to, or a pair that it
/// leaves out.
std::optional<std::vector<float>> scores_from_merges(const std::vector<std::string>& tokens,
                                                     const std::vector<int64_t>& types,
                                                     const Merges& merges);

}  // namespace schmidt::text
