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

struct ChatOptions {
  bool generation_prompt = true;  ///< opens the assistant's next turn
  /// Qwen 3 only: whether the next turn may start with its reasoning.
  bool thinking = true;
  /// Llama 3.1 and later name today's date, as "26 Jul 2024"; empty: the date that the
  /// template sets, which for some is the day of the call.
  std::string date;
};

/// The conversation as one prompt, the way the model's family was trained on it.
/// The format is recognised from the tokenizer's Jinja template (never run), or from
/// `model_type` where there is none. BOS is part of the text where the template has
/// it, so encode with parse_special and without add_special.
/// Throws c10::ValueError for an unknown role or an order the family does not
/// allow, or where no known format fits.
std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, const ChatOptions& options);

/// The same with default options.
std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, bool generation_prompt);

}  // namespace schmidt::text
