#include "schmidt/serve/served_model.h"

#include <algorithm>

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

int64_t characters(std::string_view text) {
  return std::ranges::count_if(text, [](unsigned char c) { return (c & 0xC0U) != 0x80U; });
}

}  // namespace schmidt::serve
