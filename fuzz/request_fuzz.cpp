#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "schmidt/serve/api_error.h"
#include "schmidt/serve/fields.h"
#include "schmidt/serve/request.h"

// What is taken as a completion or a chat is within the limits that were set.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace schmidt::serve;
  static const ServedModel model{
      .name = "tiny",
      .tokenizer = schmidt::text::Tokenizer::from_json(
          R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})"),
      .vocab_size = 100,
      .context = 64};
  static const RequestLimits limits;
  nlohmann::json body;
  try {
    body = parse_body({reinterpret_cast<const char*>(data), size});
  } catch (const ApiError&) {
    return 0;  // what a wrong request gets; anything else is a finding
  }
  const auto check = [](const AnswerOptions& options) {
    if (options.n < 1 || options.n > limits.max_choices || options.max_tokens.value_or(0) < 0 ||
        options.logprobs.value_or(0) < 0 ||
        options.logprobs.value_or(0) > limits.max_top_logprobs) {
      std::abort();
    }
    schmidt::model::check_sampling(options.sampling);
  };
  try {
    const CompletionRequest request = parse_completion(body, model, limits);
    check(request.options);
    if (request.prompts.empty()) std::abort();
    for (const Prompt& prompt : request.prompts) {
      if (!std::holds_alternative<std::vector<int64_t>>(prompt)) continue;
      for (const int64_t id : std::get<std::vector<int64_t>>(prompt)) {
        if (id < 0 || id >= model.vocab_size) std::abort();
      }
    }
  } catch (const ApiError&) {
    // As above.
  }
  try {
    const ChatRequest request = parse_chat(body, limits);
    check(request.options);
    if (request.messages.empty()) std::abort();
  } catch (const ApiError&) {
    // As above.
  }
  return 0;
}
