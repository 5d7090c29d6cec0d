#include "schmidt/serve/served_model.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "schmidt/serve/api_error.h"

namespace schmidt::serve {

std::string text_of(const text::Tokenizer& tokenizer, std::vector<int64_t> ids) {
  std::erase_if(ids, [&](int64_t id) { return id >= tokenizer.vocab_size(); });
  return tokenizer.decode(ids);
}

TokenTexts::TokenTexts(const text::Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      before_(tokenizer.encode("a")),
      text_before_(tokenizer.decode(before_)) {}

std::string TokenTexts::of(int64_t id) const {
  std::vector<int64_t> both = before_;
  both.push_back(id);
  const std::string text = text_of(tokenizer_, both);
  return text.starts_with(text_before_) ? text.substr(text_before_.size())
                                        : text_of(tokenizer_, {id});
}

int64_t longest_token(const text::Tokenizer& tokenizer) {
  const std::vector<int64_t> without = tokenizer.ids_without_token(tokenizer.vocab_size());
  size_t longest = 0;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (std::ranges::binary_search(without, id)) continue;
    longest = std::max(longest, tokenizer.id_to_token(id).size());
  }
  return static_cast<int64_t>(longest);
}

std::vector<int64_t> encode_text(const ServedModel& model, std::string_view text,
                                 const text::EncodeOptions& options, const std::string& where) {
  const int64_t most = model.context * model.longest_token;
  if (most > 0 && std::cmp_greater(text.size(), most)) {
    throw invalid_request(
        fmt::format("{}: expected a text of at most {} tokens, the context, and so of at most {} "
                    "bytes, got {} bytes",
                    where, model.context, most, text.size()),
        "context_length_exceeded");
  }
  return model.tokenizer.encode(text, options);
}

int64_t characters(std::string_view text) {
  return std::ranges::count_if(text, [](unsigned char c) { return (c & 0xC0U) != 0x80U; });
}

}  // namespace schmidt::serve
