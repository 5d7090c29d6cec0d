#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/model/sampler.h"
#include "schmidt/serve/served_model.h"
#include "schmidt/text/chat.h"

namespace schmidt::serve {

/// What completions and chat completions take alike.
struct AnswerOptions {
  std::optional<int64_t> max_tokens;  ///< >= 0; none: the endpoint's default
  int64_t n = 1;                      ///< answers to each prompt
  model::SamplingOptions sampling;    ///< without the seed
  std::optional<int64_t> seed;        ///< none: another one each time
  std::vector<std::string> stop;      ///< texts that end an answer and are no part of it
  bool ignore_eos = false;
  bool stream = false;
  bool include_usage = false;       ///< in a stream
  std::optional<int64_t> logprobs;  ///< likeliest tokens beside each; none: no log-probabilities
};

/// Text, or token ids that are taken as they are.
using Prompt = std::variant<std::string, std::vector<int64_t>>;

struct CompletionRequest {
  std::vector<Prompt> prompts;  ///< one or more
  bool echo = false;            ///< the answer begins with the prompt
  AnswerOptions options;
};

struct ChatRequest {
  std::vector<text::Message> messages;  ///< one or more
  AnswerOptions options;
};

/// Bodies of POST /v1/completions and /v1/chat/completions, whatever `model` they name.
/// Throw ApiError of status 400 with the name of the field. What would change the answer and is not
/// known here (a logit bias, tools) is refused, other unknown fields are not read.
CompletionRequest parse_completion(const nlohmann::json& body, const ServedModel& model,
                                   const RequestLimits& limits);
ChatRequest parse_chat(const nlohmann::json& body, const RequestLimits& limits);

/// The "messages" of a chat.
std::vector<text::Message> parse_messages(const nlohmann::json& list);

}  // namespace schmidt::serve
