#include "schmidt/serve/served_model.h"

#include <algorithm>

namespace schmidt::serve {

std::string text_of(const text::Tokenizer& tokenizer, std::vector<int64_t> ids) {
  std::erase_if(ids, [&](int64_t id) { return id >= tokenizer.vocab_size(); });
  return tokenizer.decode(ids);
}

std::string token_text(const text::Tokenizer& tokenizer, int64_t id) {
  // A decoder may treat the first token of a text in its own way: another one goes before.
  const std::vector<int64_t> before = tokenizer.encode("a");
  std::vector<int64_t> both = before;
  both.push_back(id);
  const std::string first = tokenizer.decode(before);
  const std::string text = text_of(tokenizer, both);
  return text.starts_with(first) ? text.substr(first.size()) : text_of(tokenizer, {id});
}

int64_t characters(std::string_view text) {
  return std::ranges::count_if(text, [](unsigned char c) { return (c & 0xC0U) != 0x80U; });
}

}  // namespace schmidt::serve
