#include "schmidt/serve/choice.h"

namespace schmidt::serve {

Choice::Choice(const text::Tokenizer& tokenizer, std::vector<std::string> stops, int64_t index,
               std::string echo)
    : tokenizer_(tokenizer),
      decoder_(tokenizer, /*skip_special=*/true),
      stop_(std::move(stops)),
      index_(index),
      echo_(std::move(echo)),
      decoded_(characters(echo_)) {
  fresh_.text = echo_;
}

void Choice::log_prompt(const std::vector<int64_t>& prompt,
                        const std::vector<infer::TokenScore>& scores) {
  text::StreamDecoder decoder(tokenizer_, /*skip_special=*/false);
  int64_t offset = 0;
  for (size_t i = 0; i < prompt.size(); ++i) {
    LoggedToken token{prompt[i], std::nullopt, offset};
    if (i > 0) token.score = scores.at(i - 1);
    fresh_.tokens.push_back(std::move(token));
    if (prompt[i] >= tokenizer_.vocab_size()) continue;
    const bool spelled = i > 0 || echo_.starts_with(tokenizer_.decode({prompt[0]}));
    if (spelled) offset += characters(decoder.push(prompt[i]));
  }
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
  finish_reason_ = full ? "length" : "stop";
  outcome_ = outcome;
}

Choice::Piece Choice::take() { return std::exchange(fresh_, {}); }

}  // namespace schmidt::serve
