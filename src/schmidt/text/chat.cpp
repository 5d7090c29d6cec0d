#include "schmidt/text/chat.h"

#include <c10/util/Exception.h>

#include "schmidt/text/chat_formats.h"
#include "schmidt/text/jinja.h"

namespace schmidt::text {
namespace {

using jinja::Value;

jinja::Dict variables_of(const Tokenizer& tokenizer, const std::vector<Message>& messages,
                         const ChatOptions& options) {
  jinja::List turns;
  for (const Message& message : messages) {
    jinja::Dict turn = {{"role", message.role}, {"content", message.content}};
    for (const auto& [name, text] : message.fields) turn.emplace_back(name, text);
    turns.emplace_back(std::move(turn));
  }
  jinja::Dict variables = {{"messages", std::move(turns)},
                           {"tools", jinja::None{}},
                           {"documents", jinja::None{}},
                           {"add_generation_prompt", options.generation_prompt}};
  const auto token = [&](const char* name, std::optional<int64_t> id) {
    if (id) variables.emplace_back(name, tokenizer.id_to_token(*id));
  };
  if (tokenizer.names_bos()) token("bos_token", tokenizer.bos_id());
  if (tokenizer.names_eos()) token("eos_token", tokenizer.eos_id());
  if (!options.thinking) variables.emplace_back("enable_thinking", false);
  if (!options.date.empty()) variables.emplace_back("date_string", options.date);
  return variables;
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
  std::string_view source = tokenizer.chat_template();
  if (source.empty()) {
    source = chat_template_of_model(model_type, [&](std::string_view token) {
      return tokenizer.token_to_id(token).has_value();
    });
  }
  TORCH_CHECK_VALUE(!source.empty(),
                    "[format_chat] expected a model with a chat template or of a type with a "
                    "known one, got the type \"",
                    model_type, "\"");
  return jinja::Template(source).render(variables_of(tokenizer, messages, options),
                                        {.date = options.date});
}

std::string format_chat(const Tokenizer& tokenizer, std::string_view model_type,
                        const std::vector<Message>& messages, bool generation_prompt) {
  ChatOptions options;
  options.generation_prompt = generation_prompt;
  return format_chat(tokenizer, model_type, messages, options);
}

std::optional<std::string> chat_refusal(const Tokenizer& tokenizer, std::string_view model_type,
                                        const std::vector<Message>& messages) {
  try {
    format_chat(tokenizer, model_type, messages, false);
    return std::nullopt;
  } catch (const c10::ValueError& e) {
    format_chat(tokenizer, model_type, {{"user", "Hello"}}, false);
    return e.what_without_backtrace();
  }
}

}  // namespace schmidt::text
