#include "schmidt/eval/encoded_question.h"

#include <algorithm>
#include <optional>
#include <string>

#include <c10/util/Exception.h>

#include "schmidt/eval/python_text.h"

namespace schmidt::eval {
namespace {

/// The token that stands before an empty prompt.
std::optional<int64_t> opening_token(const text::Tokenizer& tokenizer) {
  return tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
}

bool begins_with(const text::Tokenizer& tokenizer, std::string_view text,
                 std::optional<int64_t> token) {
  return token && text.starts_with(tokenizer.decode({*token}));
}

}  // namespace

EncodedChoice encode_choice(const text::Tokenizer& tokenizer, const Question& question,
                            size_t choice) {
  const std::string& prompt = question.prompt_of(choice);
  const std::string whole = prompt + " " + question.choices[choice];
  const std::string_view before = right_stripped(prompt);
  const std::optional<int64_t> opening = opening_token(tokenizer);
  EncodedChoice encoded;
  Ids all;
  if (!before.empty()) {
    const text::EncodeOptions options{.add_special = !begins_with(tokenizer, whole, opening)};
    all = tokenizer.encode(whole, options);
    encoded.prompt = tokenizer.encode(before, options);
  } else {
    all = tokenizer.encode(whole);
  }
  TORCH_CHECK_VALUE(!all.empty(), "[tasks] expected a choice of one token or more, got none");
  if (encoded.prompt.empty()) {
    TORCH_CHECK_VALUE(opening,
                      "[tasks] expected a prompt, or a tokenizer with a BOS or EOS that "
                      "stands for an empty one; got neither");
    if (all.front() != *opening || all.size() == 1) all.insert(all.begin(), *opening);
    encoded.prompt = {*opening};
  }
  // The choice keeps a token where it is lost in the prompt's last one.
  const size_t split = std::min(encoded.prompt.size(), all.size() - 1);
  encoded.prompt.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(split));
  encoded.tokens.assign(all.begin() + static_cast<std::ptrdiff_t>(split), all.end());
  TORCH_CHECK_VALUE(split >= 1, "[tasks] expected a prompt, got none");
  return encoded;
}

Ids encode_prompt(const text::Tokenizer& tokenizer, std::string_view prompt) {
  return tokenizer.encode(prompt,
                          {.add_special = !begins_with(tokenizer, prompt, tokenizer.bos_id())});
}

ChoiceRow choice_row(const text::Tokenizer& tokenizer, const Question& question, size_t choice,
                     int64_t context) {
  auto [ids, tokens] = encode_choice(tokenizer, question, choice);
  const auto own = static_cast<int64_t>(tokens.size());
  TORCH_CHECK_VALUE(own <= context, "[tasks] expected choices of 1 to ", context,
                    " tokens, the context, got ", own);
  ids.insert(ids.end(), tokens.begin(), tokens.end() - 1);  // nothing follows the last one
  const auto room = static_cast<size_t>(context);
  if (ids.size() > room) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(room));
  const int64_t begin = static_cast<int64_t>(ids.size()) - own;
  return {std::move(ids), begin, std::move(tokens)};
}

}  // namespace schmidt::eval
