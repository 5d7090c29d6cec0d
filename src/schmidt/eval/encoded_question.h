#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "schmidt/eval/task.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::eval {

using Ids = std::vector<int64_t>;

/// A choice after its prompt, as tokens.
struct EncodedChoice {
  Ids prompt;  ///< one token or more
  Ids tokens;  ///< the choice's own: what prompt and choice together have after the prompt's
};

/// As lm-evaluation-harness does it: white space at the prompt's end begins the choice; the
/// tokenizer's own opening token comes first unless the prompt begins with it; before an
/// empty prompt stands the BOS, or else the EOS.
/// Throws c10::ValueError where a choice has no token.
EncodedChoice encode_choice(const text::Tokenizer& tokenizer, const Question& question,
                            size_t choice);

/// A prompt whose text is to be continued.
Ids encode_prompt(const text::Tokenizer& tokenizer, std::string_view prompt);

/// Tokens that a model reads to score a choice, and which of what it says counts.
struct ChoiceRow {
  Ids ids;            ///< prompt and choice without its last token; at most `context` of them
  int64_t begin = 0;  ///< the states from here on predict `tokens`
  Ids tokens;
};

/// Of a longer one the beginning is cut off. Throws c10::ValueError where the choice alone has
/// more than `context` tokens.
ChoiceRow choice_row(const text::Tokenizer& tokenizer, const Question& question, size_t choice,
                     int64_t context);

}  // namespace schmidt::eval
