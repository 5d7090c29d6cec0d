#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "schmidt/infer/scheduler.h"
#include "schmidt/serve/http.h"
#include "schmidt/serve/openai_json.h"
#include "schmidt/serve/request.h"

namespace schmidt::serve {

/// A prompt in token ids, and its text where the answer shall begin with it.
struct EncodedPrompt {
  std::vector<int64_t> ids;
  std::string echo = {};
  bool continues = false;  ///< the answer goes on within the prompt's text
};

/// Everything that makes the answer to one request.
struct Question {
  std::vector<EncodedPrompt> prompts;
  AnswerOptions options;
  int64_t max_tokens = 16;
  bool echo = false;  ///< log-probabilities of the prompts too, where any are asked for
  uint64_t seed = 0;  ///< of this request
};

/// Submits n answers to each prompt and sends them as they come, or whole. Where one cannot be
/// written all of them end. The model and the scheduler have to outlive the reply's answer.
/// Throws infer::Refused or c10::ValueError where the scheduler takes none of them.
void answer(const ServedModel& model, infer::Scheduler& scheduler, const AnswerFormat& format,
            Question question, const std::shared_ptr<Reply>& reply);

}  // namespace schmidt::serve
