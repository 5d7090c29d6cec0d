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
///
///   text -> added tokens cut out -> normalizer -> pre-tokenizer -> model -> ids
///   ids -> tokens -> decoder -> text
class Tokenizer {
 public:
  /// From a Hugging Face folder (tokenizer.json first, then tokenizer.model, then vocab.json
  /// with merges.txt) or a .gguf file, by its path or its id in the hub's cache
  /// (io/hub_cache.h). Throws c10::ValueError if there is no such model, FormatError
  /// if what is there is missing, broken or of a kind that is not supported.
  static Tokenizer load(const std::filesystem::path& name);

  /// From the content of a tokenizer.json; `path` is for messages. Throws FormatError.
  static Tokenizer from_json(std::string_view tokenizer_json,
                             const std::filesystem::path& path = "tokenizer.json");

  /// Any bytes are accepted; invalid UTF-8 becomes U+FFFD as in Hugging Face. Throws
  /// FormatError where a pattern of the tokenizer takes too many steps.
  std::vector<int64_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// An id without a token gives no text, as in Hugging Face, where the vocabulary of the
  /// tokenizer or of the model beside it reaches so far: embeddings are padded with rows that
  /// stand for nothing. Throws c10::ValueError for an id beyond both.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = false) const;

  int64_t vocab_size() const;  ///< highest id + 1, added tokens included
  std::optional<int64_t> token_to_id(std::string_view token) const;
  /// Every id of 0 .. vocab_size - 1 that has no token, ascending: the padding of a model
  /// whose embedding has that many rows.
  std::vector<int64_t> ids_without_token(int64_t vocab_size) const;
  /// The token as the vocabulary spells it. Throws c10::ValueError for an id without one.
  std::string id_to_token(int64_t id) const;
  bool is_special(int64_t id) const;
  std::optional<int64_t> bos_id() const;
  std::optional<int64_t> eos_id() const;
  /// Whether the tokenizer's own files name the token, or leave it to a class that has one: chat
  /// templates know no other. An id in the model's configuration alone does not count.
  bool names_bos() const;
  bool names_eos() const;
  /// Every id that ends a generation: `eos_id` and what the model's
  /// generation_config.json or GGUF adds; ascending.
  const std::vector<int64_t>& stop_ids() const;

  /// What was taken for granted in reading the tokenizer and may be wrong: full sentences for
  /// the user, mostly none.
  const std::vector<std::string>& notes() const;

  /// The Jinja source of the model's chat template; empty where there is none.
  const std::string& chat_template() const;

  /// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json
  /// (copies of the originals where the source is a folder) into `folder`, such
  /// that Hugging Face's AutoTokenizer gives the same ids. Throws SystemError.
  void save(const std::filesystem::path& folder) const;

  struct Impl;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

class Decoding;

/// Decodes ids as they come; text leaves it in whole characters only. All that comes
/// out, put together, is what `decode` gives for all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = true);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  /// What is now complete; may be empty. Throws c10::ValueError as `decode`.
  std::string push(int64_t id);
  /// The rest, an unfinished character as U+FFFD. Ends the stream: what is pushed
  /// later belongs to a new text.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::unique_ptr<Decoding> decoding_;
};

/// The first id below `vocab_size` that stands for other tokens in two tokenizers, or for one in
/// one of them alone; none: they are the same there.
std::optional<int64_t> first_difference(const Tokenizer& a, const Tokenizer& b, int64_t vocab_size);

}  // namespace schmidt::text
