#include "schmidt/serve/request.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "schmidt/serve/api_error.h"
#include "schmidt/serve/fields.h"

namespace schmidt::serve {
namespace {

using nlohmann::json;

constexpr int64_t kMostTokens = 1'000'000'000;  // the context ends an answer long before

std::vector<std::string> stops(const Fields& fields, const RequestLimits& limits) {
  const json* value = fields.find("stop");
  if (value == nullptr) return {};
  const std::string expected =
      fmt::format("a string or a list of strings, of at most {} bytes", limits.max_stop_bytes);
  const json list = value->is_array() ? *value : json::array({*value});
  std::vector<std::string> texts;
  size_t bytes = 0;
  for (const json& stop : list) {
    if (!stop.is_string()) fields.fail("stop", expected, stop);
    const auto& text = stop.get_ref<const std::string&>();
    bytes += std::max<size_t>(text.size(), 1);
    if (std::cmp_greater(bytes, limits.max_stop_bytes)) {
      throw invalid_request(fmt::format("stop: expected {}, got more", expected), "stop");
    }
    texts.push_back(text);
  }
  return texts;
}

// A field that would change the answer, unless it has the value that changes nothing.
void refuse(const Fields& fields, const char* name, const std::vector<json>& without_effect) {
  const json* value = fields.find(name);
  if (value == nullptr || std::ranges::find(without_effect, *value) != without_effect.end()) return;
  throw invalid_request(fmt::format("{}: this server does not know this option", name),
                        "unsupported_value");
}

AnswerOptions common_options(const Fields& fields, const RequestLimits& limits) {
  for (const char* name : {"frequency_penalty", "presence_penalty"}) refuse(fields, name, {0});
  refuse(fields, "logit_bias", {json::object()});
  refuse(fields, "min_tokens", {0});
  refuse(fields, "stop_token_ids", {json::array()});
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar",
                           "structured_outputs", "grammar", "json_schema"}) {
    refuse(fields, name, {});
  }
  AnswerOptions options;
  options.n = fields.integer("n", 1, limits.max_choices).value_or(1);
  options.max_tokens = fields.integer("max_tokens", 0, kMostTokens);
  options.sampling.temperature = fields.number("temperature", 1.0, 0.0, 100.0);
  options.sampling.top_p = fields.number("top_p", 1.0, 0.0, 1.0);
  if (options.sampling.top_p == 0.0) {
    fields.fail("top_p", "a number above 0 and at most 1", *fields.find("top_p"));
  }
  options.sampling.min_p = fields.number("min_p", 0.0, 0.0, 1.0);
  options.sampling.repetition_penalty = fields.number(
      "repetition_penalty", 1.0, model::kLeastRepetitionPenalty, model::kLargestRepetitionPenalty);
  // -1 is how others say that all tokens may be drawn.
  options.sampling.top_k =
      std::max<int64_t>(fields.integer("top_k", -1, kMostTokens).value_or(0), 0);
  options.seed = fields.integer("seed", std::numeric_limits<int64_t>::min(),
                                std::numeric_limits<int64_t>::max());
  options.stop = stops(fields, limits);
  options.ignore_eos = fields.flag("ignore_eos", false);
  options.stream = fields.flag("stream", false);
  if (const json* stream = fields.find("stream_options")) {
    options.include_usage = Fields(*stream, "stream_options").flag("include_usage", false);
  }
  return options;
}

std::vector<Prompt> prompts_of(const json& value, const ServedModel& model,
                               const RequestLimits& limits) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array()) {
    throw invalid_request(
        "prompt: expected a string, a list of strings, a list of token ids or a list of such "
        "lists",
        "invalid_type");
  }
  if (value.empty()) {
    throw invalid_request("prompt: expected a token or more, got an empty list");
  }
  if (value.front().is_number()) return {token_ids(value, model.vocab_size, "prompt")};
  if (std::cmp_greater(value.size(), limits.max_prompts)) {
    throw invalid_request(fmt::format("prompt: expected at most {} prompts in a request, got {}",
                                      limits.max_prompts, value.size()));
  }
  std::vector<Prompt> prompts;
  for (const json& prompt : value) {
    const std::string where = fmt::format("prompt[{}]", prompts.size());
    if (prompt.is_string() != value.front().is_string()) {
      throw invalid_request(where + ": expected prompts of one kind, strings or lists of token ids",
                            "invalid_type");
    }
    if (prompt.is_string()) {
      prompts.emplace_back(prompt.get<std::string>());
    } else {
      prompts.emplace_back(token_ids(prompt, model.vocab_size, where));
    }
  }
  return prompts;
}

// A string, or the parts that clients for pictures and sound send: text alone is taken.
std::string content_of(const Fields& message, const std::string& where) {
  const json* content = message.find("content");
  if (content == nullptr) return {};
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) message.fail("content", "a string or a list of parts", *content);
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const Fields part((*content)[i], fmt::format("{}.content[{}]", where, i));
    if (part.text("type", "") != "text") part.fail("type", "\"text\"", part.at("type"));
    text += part.text("text", "");
  }
  return text;
}

}  // namespace

std::vector<text::Message> parse_messages(const json& list) {
  if (!list.is_array() || list.empty()) {
    throw invalid_request("messages: expected a list of one message or more");
  }
  std::vector<text::Message> messages;
  for (const json& value : list) {
    const std::string where = fmt::format("messages[{}]", messages.size());
    const Fields message(value, where);
    std::string role = message.text("role", "");
    if (role == "developer") role = "system";
    if (role != "system" && role != "user" && role != "assistant") {
      message.fail("role", "\"system\", \"user\" or \"assistant\"", message.at("role"));
    }
    if (role == "user") message.at("content");
    for (const char* calls : {"tool_calls", "function_call"}) {
      const json* made = message.find(calls);
      if (made != nullptr && !made->empty()) {
        throw invalid_request(fmt::format("{}.{}: this server knows no tools", where, calls),
                              "unsupported_value");
      }
    }
    messages.push_back({std::move(role), content_of(message, where)});
  }
  return messages;
}

CompletionRequest parse_completion(const json& body, const ServedModel& model,
                                   const RequestLimits& limits) {
  const Fields fields(body);
  refuse(fields, "suffix", {""});
  CompletionRequest request;
  request.options = common_options(fields, limits);
  refuse(fields, "best_of", {1, request.options.n});
  request.options.logprobs = fields.integer("logprobs", 0, limits.max_top_logprobs);
  request.echo = fields.flag("echo", false);
  request.prompts = prompts_of(fields.at("prompt"), model, limits);
  return request;
}

ChatRequest parse_chat(const json& body, const RequestLimits& limits) {
  const Fields fields(body);
  for (const char* name : {"tools", "functions"}) refuse(fields, name, {json::array()});
  for (const char* name : {"tool_choice", "function_call"}) refuse(fields, name, {"none", "auto"});
  refuse(fields, "response_format", {json{{"type", "text"}}});
  refuse(fields, "modalities", {json::array({"text"})});
  refuse(fields, "add_generation_prompt", {true});
  refuse(fields, "continue_final_message", {false});
  refuse(fields, "chat_template_kwargs", {json::object()});
  for (const char* name : {"chat_template", "documents", "reasoning_effort"}) {
    refuse(fields, name, {});
  }
  ChatRequest request;
  request.options = common_options(fields, limits);
  if (const auto most = fields.integer("max_completion_tokens", 0, kMostTokens)) {
    request.options.max_tokens = most;
  }
  const auto top = fields.integer("top_logprobs", 0, limits.max_top_logprobs);
  if (fields.flag("logprobs", false)) {
    request.options.logprobs = top.value_or(0);
  } else if (top.value_or(0) > 0) {
    throw invalid_request("top_logprobs: expected it beside \"logprobs\": true alone");
  }
  request.messages = parse_messages(fields.at("messages"));
  return request;
}

}  // namespace schmidt::serve
