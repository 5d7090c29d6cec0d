#include "schmidt/serve/choice.h"

#include <utility>

#include "schmidt/text/continuation.h"

namespace schmidt::serve {

Choice::Choice(const text::Tokenizer& tokenizer, std::vector<std::string> stops, int64_t index,
               std::string echo, bool continues)
    : decoder_(text::answer_decoder(tokenizer, continues)),
      stop_(std::move(stops)),
      index_(index),
      decoded_(characters(echo)) {
  fresh_.text = std::move(echo);
}

std::vector<LoggedToken> logged_prompt(const text::Tokenizer& tokenizer, const std::string& text,
                                       const std::vector<int64_t>& prompt,
                                       const std::vector<infer::TokenScore>& scores) {
  text::StreamDecoder decoder(tokenizer, /*skip_special=*/false);
  std::vector<LoggedToken> logged;
  int64_t offset = 0;
  for (size_t i = 0; i < prompt.size(); ++i) {
    LoggedToken token{prompt[i], std::nullopt, offset};
    if (i > 0) token.score = scores.at(i - 1);
    logged.push_back(std::move(token));
    if (prompt[i] >= tokenizer.vocab_size()) continue;
    const bool spelled = i > 0 || text.starts_with(tokenizer.decode({prompt[0]}));
    if (spelled) offset += characters(decoder.push(prompt[i]));
  }
  return logged;
}

void Choice::add(std::string text) { fresh_.text += text; }

bool Choice::push(const infer::DrawnToken& token) {
  if (token.score) fresh_.tokens.push_back({token.id, token.score, decoded_});
  if (token.ends_text) return true;
  const std::string text = decoder_.push(token.id);
  decoded_ += characters(text);
  add(stop_.push(text));
  return !stop_.stopped();
}

void Choice::end(const infer::Outcome& outcome) {
  add(stop_.push(decoder_.flush()));
  const bool full = outcome.ending == infer::Ending::kLength && !stop_.stopped();
  add(stop_.flush());
  fresh_.finish_reason = full ? "length" : "stop";
  outcome_ = outcome;
}

Piece Choice::take() {
  Piece piece = std::exchange(fresh_, {});
  piece.index = index_;
  return piece;
}

}  // namespace schmidt::serve
