#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "schmidt/text/tokenizer.h"

namespace schmidt::text {

struct Message {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// The conversation as one prompt, the way the model's family was trained on it.
/// The format is recognised from the tokenizer's Jinja template (never run), else
/// from `model_type`. `generation_prompt` opens the assistant's next turn.
/// Throws c10::ValueError for an unknown role or an order the family does not
/// allow, or where no known format fits.
std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, bool generation_prompt);

}  // namespace schmidt::text
