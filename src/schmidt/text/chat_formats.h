#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/text/chat.h"

namespace schmidt::text {

/// What a format writes from.
struct ChatContext {
  const std::vector<Message>& messages;  ///< not empty, known roles
  const ChatOptions& options;
  std::string_view source;  ///< the Jinja template; may be empty
  std::string bos, eos;     ///< tokens; empty where the tokenizer has none
};

/// Writes a conversation. Throws c10::ValueError for an order it does not allow.
using ChatFormat = std::string (*)(const ChatContext&);

/// The format that a Jinja template describes; nullptr for an unknown one.
ChatFormat chat_format_of_template(std::string_view source);

/// The format of a model without a template: by `model_type` of config.json and the
/// tokens that its vocabulary has; nullptr where none is known.
ChatFormat chat_format_of_model(std::string_view model_type,
                                const std::function<bool(std::string_view)>& has_token);

}  // namespace schmidt::text
