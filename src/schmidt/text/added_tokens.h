#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "schmidt/text/normalizer.h"
#include "schmidt/text/vocabulary.h"

namespace schmidt::text {

/// A token that is found in the text as it stands, before the model sees any of it.
struct AddedToken {
  int64_t id = 0;
  std::string content;
  bool special = false;      ///< marks structure (BOS, a turn): no text, skipped on decoding
  bool lstrip = false;       ///< takes white space before it along
  bool rstrip = false;       ///< takes white space behind it along
  bool single_word = false;  ///< only where no word character touches it
  bool normalized = false;   ///< looked for in normalized text, itself normalized
};

/// The `added_tokens` array of tokenizer.json. Throws FormatError.
std::vector<AddedToken> parse_added_tokens(const JsonView& json);

/// Finds added tokens, the leftmost first and of those the longest, as tokenizers does.
class AddedTokens {
 public:
  /// `normalizer` may be empty.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  /// An added token, or a stretch of normalized text between two.
  struct Segment {
    std::optional<int64_t> id;
    std::string text;
    bool at_start = false;  ///< begins where the whole text begins
  };

  /// Cuts and normalizes valid UTF-8. With `parse_special` false, special tokens that
  /// are written in the text stay text.
  std::vector<Segment> split(std::string_view text, bool parse_special) const;

  bool is_special(int64_t id) const { return special_.contains(id); }
  int64_t size() const { return size_; }  ///< highest id + 1
  /// As it stands in normalized text; nullptr for an id that is not an added token.
  const std::string* token(int64_t id) const;
  std::optional<int64_t> id(std::string_view token) const;

 private:
  // Byte trie; node 0 is the root.
  struct Trie {
    struct Node {
      std::unordered_map<char, size_t> next;
      std::optional<size_t> token;  // into tokens_
    };
    std::vector<Node> nodes{1};
    void insert(std::string_view content, size_t token);
  };

  void split_at(const Trie& trie, std::string_view text, bool at_start, bool parse_special,
                std::vector<Segment>& segments) const;

  std::vector<AddedToken> tokens_;
  std::vector<std::string> spellings_;         // of tokens_, normalized where they are
  std::unordered_map<int64_t, size_t> by_id_;  // into tokens_
  std::unordered_map<std::string, size_t, StringHash, std::equal_to<>> by_content_;
  std::unordered_set<int64_t> special_;
  int64_t size_ = 0;
  Normalizer normalizer_;
  Trie raw_;         // tokens looked for in the text as given
  Trie normalized_;  // tokens looked for in normalized text
};

}  // namespace schmidt::text
