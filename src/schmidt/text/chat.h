#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "schmidt/text/tokenizer.h"

namespace schmidt::text {

struct Message {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
  /// Other texts of the turn, which some templates write: "reasoning_content", "name".
  std::vector<std::pair<std::string, std::string>> fields = {};
};

struct ChatOptions {
  bool generation_prompt = true;  ///< opens the assistant's next turn
  /// Of templates that ask for it (`enable_thinking`): whether the next turn may start with
  /// its reasoning.
  bool thinking = true;
  /// The day that templates name, as "26 Jul 2024"; empty: the one that the template sets,
  /// which for some is the day of the call.
  std::string date;
};

/// The conversation as one prompt: the tokenizer's chat template, rendered as transformers'
/// apply_chat_template does, or that of `model_type`'s family where there is none. BOS is
/// part of the text where the template has it, so encode with parse_special and without
/// add_special.
/// Throws c10::ValueError for an unknown role, a conversation that the template refuses, a
/// template that steps outside of what jinja::Template renders (in one line, naming what and
/// where), or where there is no template at all.
std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, const ChatOptions& options);

/// The same with default options.
std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, bool generation_prompt);

/// Why the model's format cannot write a conversation; none if it can. Throws c10::ValueError
/// as format_chat does where it can write no conversation at all, so that none is to blame.
std::optional<std::string> chat_refusal(const Tokenizer& tokenizer, std::string_view model_type,
                                        const std::vector<Message>& messages);

}  // namespace schmidt::text
