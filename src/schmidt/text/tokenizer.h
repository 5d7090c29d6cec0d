#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::text {

struct EncodeOptions {
  bool parse_special = true;  ///< special tokens written in the text become their ids
  bool add_special = false;   ///< what the tokenizer adds of itself (BOS, EOS)
};

/// Text to token ids and back: byte-level or Metaspace BPE read from
/// tokenizer.json or from a GGUF vocabulary, or SentencePiece's tokenizer.model.
/// Immutable, cheap to copy, safe to use from several threads.
class Tokenizer {
 public:
  /// From a Hugging Face folder (tokenizer.json first, then tokenizer.model) or a
  /// .gguf file. Throws c10::ValueError if there is no such path, FormatError if
  /// what is there is missing, broken or of a kind that is not supported.
  static Tokenizer load(const std::filesystem::path& path);

  /// Any bytes are accepted; invalid UTF-8 becomes U+FFFD as in Hugging Face.
  std::vector<int64_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// Throws c10::ValueError for an id that is not in the vocabulary.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = false) const;

  int64_t vocab_size() const;  ///< highest id + 1, added tokens included
  std::optional<int64_t> token_to_id(std::string_view token) const;
  std::string id_to_token(int64_t id) const;
  bool is_special(int64_t id) const;
  std::optional<int64_t> bos_id() const;
  std::optional<int64_t> eos_id() const;

  /// The Jinja source of the model's chat template; empty where there is none.
  const std::string& chat_template() const;

  /// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json
  /// (copies of the originals where the source is a folder) into `folder`, such
  /// that Hugging Face's AutoTokenizer gives the same ids.
  void save(const std::filesystem::path& folder) const;

  struct Impl;

 private:
  friend class StreamDecoder;
  std::shared_ptr<const Impl> impl_;
};

/// Decodes ids as they come; text leaves it in whole characters only.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = true);
  /// What is now complete; may be empty.
  std::string push(int64_t id);
  /// The rest, an unfinished character as U+FFFD.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string pending_;
  bool first_ = true;
};

}  // namespace schmidt::text
