#include <fmt/format.h>

#include "schmidt/serve/answering.h"
#include "schmidt/serve/api_error.h"
#include "schmidt/serve/endpoints.h"
#include "schmidt/text/continuation.h"

namespace schmidt::serve {
namespace {

// Token ids are taken as they are; a text gets what the tokenizer adds of itself.
EncodedPrompt encode(const ServedModel& model, const Prompt& prompt, bool echo,
                     const std::string& where) {
  EncodedPrompt encoded;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    encoded.ids = encode_text(model, *text, {.add_special = true}, where);
    if (echo) encoded.echo = *text;
  } else {
    encoded.ids = std::get<std::vector<int64_t>>(prompt);
    if (echo) encoded.echo = text_of(model.tokenizer, encoded.ids);
  }
  encoded.continues = text::has_text(model.tokenizer, encoded.ids);
  return encoded;
}

void check_length(const ServedModel& model, const std::vector<int64_t>& ids,
                  const std::string& where) {
  const auto length = static_cast<int64_t>(ids.size());
  if (length == 0) {
    throw invalid_request(where + ": expected a token or more, got none", "empty_prompt");
  }
  if (length > model.context) {
    throw invalid_request(fmt::format("{}: expected at most {} tokens, the context, got {}", where,
                                      model.context, length),
                          "context_length_exceeded");
  }
}

uint64_t seed_of(const Backend& backend, const AnswerOptions& options) {
  return options.seed ? static_cast<uint64_t>(*options.seed) : backend.fallback_seed;
}

}  // namespace

void complete(const Backend& backend, const nlohmann::json& body,
              const std::shared_ptr<Reply>& reply) {
  const CompletionRequest asked = parse_completion(body, backend.model, backend.limits);
  Question question{.options = asked.options,
                    .max_tokens = asked.options.max_tokens.value_or(16),
                    .echo = asked.echo,
                    .seed = seed_of(backend, asked.options)};
  for (size_t i = 0; i < asked.prompts.size(); ++i) {
    const std::string where = asked.prompts.size() == 1 ? "prompt" : fmt::format("prompt[{}]", i);
    question.prompts.push_back(encode(backend.model, asked.prompts[i], asked.echo, where));
    check_length(backend.model, question.prompts.back().ids, where);
  }
  answer(backend.model, backend.scheduler, kCompletionFormat, std::move(question), reply);
}

void chat(const Backend& backend, const nlohmann::json& body, const std::shared_ptr<Reply>& reply) {
  const ChatRequest asked = parse_chat(body, backend.limits);
  const text::Tokenizer& tokenizer = backend.model.tokenizer;
  EncodedPrompt prompt{encode_text(
      backend.model, text::format_chat(tokenizer, backend.model.model_type, asked.messages, true),
      {}, "messages")};
  check_length(backend.model, prompt.ids, "messages");
  answer(backend.model, backend.scheduler, kChatFormat,
         {.prompts = {std::move(prompt)},
          .options = asked.options,
          .max_tokens = asked.options.max_tokens.value_or(backend.model.context),
          .seed = seed_of(backend, asked.options)},
         reply);
}

}  // namespace schmidt::serve
