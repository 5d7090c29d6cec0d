#include "schmidt/text/chat.h"

#include <c10/util/Exception.h>

#include "schmidt/text/chat_formats.h"

namespace schmidt::text {
namespace {

std::string token_or_empty(const Tokenizer& tokenizer, std::optional<int64_t> id) {
  return id ? tokenizer.id_to_token(*id) : std::string();
}

}  // namespace

std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, const ChatOptions& options) {
  TORCH_CHECK_VALUE(!messages.empty(), "[format_chat] expected at least one message, got none");
  for (const Message& message : messages) {
    TORCH_CHECK_VALUE(
        message.role == "system" || message.role == "user" || message.role == "assistant",
        "[format_chat] expected the role system, user or assistant, got \"", message.role, "\"");
  }
  const std::string& source = tokenizer.chat_template();
  const ChatFormat format =
      source.empty() ? chat_format_of_model(model_type,
                                            [&](std::string_view token) {
                                              return tokenizer.token_to_id(token).has_value();
                                            })
                     : chat_format_of_template(source);
  TORCH_CHECK_VALUE(format != nullptr,
                    source.empty()
                        ? "[format_chat] expected a model with a chat template or of a "
                          "type with a known one, got the type \""
                        : "[format_chat] expected a chat template of a known format, got "
                          "another, of a model of type \"",
                    model_type, "\"");
  return format({.messages = messages,
                 .options = options,
                 .source = source,
                 .bos = token_or_empty(tokenizer, tokenizer.bos_id()),
                 .eos = token_or_empty(tokenizer, tokenizer.eos_id())});
}

std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, bool generation_prompt) {
  ChatOptions options;
  options.generation_prompt = generation_prompt;
  return format_chat(tokenizer, model_type, messages, options);
}

}  // namespace schmidt::text
