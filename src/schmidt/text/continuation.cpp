#include "schmidt/text/continuation.h"

#include <algorithm>

namespace schmidt::text {

bool has_text(const Tokenizer& tokenizer, const std::vector<int64_t>& ids) {
  return std::ranges::any_of(
      ids, [&](int64_t id) { return id < tokenizer.vocab_size() && !tokenizer.is_special(id); });
}

StreamDecoder answer_decoder(const Tokenizer& tokenizer, bool continues) {
  StreamDecoder decoder(tokenizer, /*skip_special=*/true);
  if (!continues) return decoder;
  // Any token of text will do, and the prompt's own may end within a character.
  for (const int64_t id : tokenizer.encode("a")) decoder.push(id);
  return decoder;
}

}  // namespace schmidt::text
