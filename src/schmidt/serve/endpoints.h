#pragma once

#include <cstdint>
#include <memory>

#include "schmidt/infer/scheduler.h"
#include "schmidt/serve/http.h"
#include "schmidt/serve/request.h"
#include "schmidt/serve/served_model.h"

namespace schmidt::serve {

/// What the endpoints work with.
struct Backend {
  const ServedModel& model;
  infer::Scheduler& scheduler;
  const RequestLimits& limits;
  uint64_t fallback_seed = 0;  ///< of a request that names none
};

// Each answers one request at once or later. They throw ApiError, infer::Refused, c10::ValueError
// or FormatError for what they do not take.

void complete(const Backend& backend, const HttpRequest& request,
              const std::shared_ptr<Reply>& reply);  ///< POST /v1/completions
void chat(const Backend& backend, const HttpRequest& request,
          const std::shared_ptr<Reply>& reply);  ///< POST /v1/chat/completions

HttpResponse list_models(const Backend& backend);     ///< GET /v1/models
HttpResponse health(const Backend& backend);          ///< GET /health
HttpResponse tokenizer_info(const Backend& backend);  ///< GET /tokenizer_info
/// POST /tokenize {"prompt" or "messages", "add_special_tokens"} -> {"tokens", "count", ..}
HttpResponse tokenize(const Backend& backend, const HttpRequest& request);
/// POST /detokenize {"tokens"} -> {"prompt"}
HttpResponse detokenize(const Backend& backend, const HttpRequest& request);

}  // namespace schmidt::serve
