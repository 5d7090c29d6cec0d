#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "schmidt/text/json_view.h"
#include "schmidt/text/vocabulary.h"

namespace schmidt::text {

/// An item of `merges` in tokenizer.json: ["a", "b"], or "a b". Throws FormatError for another.
std::pair<std::string, std::string> parse_merge(const JsonView& json);

/// Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909): a word starts as its
/// characters; again and again the neighbouring pair that stands first in the list
/// of merges becomes one token, the leftmost of equals first.
///
/// A character that is no token becomes its bytes "<0x00>" .. "<0xFF>" (byte fallback)
/// or the unknown token, or is dropped where there is neither. O(n log n) for a word
/// of n characters. Immutable, safe to use from several threads.
class Bpe {
 public:
  /// The `model` object of tokenizer.json, of type BPE. `vocabulary` is its `vocab`
  /// and must outlive the result. Throws FormatError for a merge of tokens that are
  /// not there, an unknown token or byte tokens that are missing, or an option that
  /// is not supported (affixes of words).
  Bpe(const JsonView& model, const Vocabulary& vocabulary);

  /// Words that one call of encode has met, with their ids.
  using Cache = std::unordered_map<std::string, std::vector<int64_t>, StringHash, std::equal_to<>>;

  /// Appends the ids of `word`, valid UTF-8, to `ids`.
  void encode(std::string_view word, Cache& cache, std::vector<int64_t>& ids) const;

 private:
  struct Merge {
    int64_t rank;
    int64_t result;
  };
  // A token in the making: where its bytes are and what it is so far.
  struct Symbol {
    int64_t id;
    size_t end;  // byte behind it in the word
  };

  std::vector<Symbol> split_into_symbols(std::string_view word) const;
  void merge(const Symbol* symbols, size_t count, std::vector<int64_t>& ids) const;
  const Merge* find_merge(int64_t left, int64_t right) const;
  void add_merge(const JsonView& json, int64_t rank);
  void note_border(int64_t left, int64_t right);

  const Vocabulary* vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // by pair of ids
  std::unordered_set<uint64_t> borders_;        // pairs of first symbols that a merge can join
  std::array<int64_t, 128> ascii_ids_;          // -1: no token
  std::optional<std::array<int64_t, 256>> byte_ids_;
  std::optional<int64_t> unknown_id_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

}  // namespace schmidt::text
