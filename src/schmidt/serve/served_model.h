#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/text/tokenizer.h"

namespace schmidt::serve {

/// What the endpoints know of a model behind its scheduler.
struct ServedModel {
  std::string name;                  ///< as /v1/models lists it
  std::vector<std::string> aliases;  ///< other names that a request may give
  std::string model_type;            ///< "llama"; for models without a chat template
  text::Tokenizer tokenizer;
  int64_t vocab_size = 0;     ///< of the model: ids of prompts are below it
  int64_t context = 0;        ///< tokens of prompt and answer
  int64_t longest_token = 0;  ///< bytes of the longest piece of the vocabulary; 0: not known
  int64_t created = 0;        ///< seconds since 1970
  nlohmann::ordered_json facts =
      nlohmann::ordered_json::object();  ///< sizes and forms, for the page
};

/// What a request may ask for.
struct RequestLimits {
  int64_t max_prompts = 1024;        ///< in one request
  int64_t max_choices = 128;         ///< n
  int64_t max_stop_bytes = 1 << 16;  ///< of all stop strings
  int64_t max_top_logprobs = 20;
};

/// What ids stand for, special tokens spelled out; those without a token, as the rows that an
/// embedding is padded with, for nothing.
std::string text_of(const text::Tokenizer& tokenizer, std::vector<int64_t> ids);

/// Tokens' texts as they stand inside of a text: of "▁Paris" " Paris". Bytes that are no
/// character by themselves are U+FFFD. Special tokens are spelled out. The tokenizer has to outlive
/// it.
class TokenTexts {
 public:
  explicit TokenTexts(const text::Tokenizer& tokenizer);

  std::string of(int64_t id) const;

 private:
  const text::Tokenizer& tokenizer_;
  // A decoder may treat the first token of a text in its own way: another one goes before.
  std::vector<int64_t> before_;
  std::string text_before_;
};

/// Bytes of the longest piece of the vocabulary as it spells it: the most text that a token
/// stands for.
int64_t longest_token(const text::Tokenizer& tokenizer);

/// The ids of a text of which `where` is the field. Throws ApiError, before it is tokenized, for
/// one that is too long for the context whatever its tokens are.
std::vector<int64_t> encode_text(const ServedModel& model, std::string_view text,
                                 const text::EncodeOptions& options, const std::string& where);

/// Unicode characters of valid UTF-8.
int64_t characters(std::string_view text);

}  // namespace schmidt::serve
