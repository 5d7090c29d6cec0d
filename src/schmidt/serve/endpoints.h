#pragma once

#include <cstdint>
#include <memory>

#include <nlohmann/json.hpp>

#include "schmidt/infer/scheduler.h"
#include "schmidt/serve/hosted_models.h"
#include "schmidt/serve/http.h"
#include "schmidt/serve/metrics.h"
#include "schmidt/serve/request.h"
#include "schmidt/serve/served_model.h"

namespace schmidt::serve {

/// What the endpoints of one model work with.
struct Backend {
  const ServedModel& model;
  infer::Scheduler& scheduler;
  const RequestLimits& limits;
  uint64_t fallback_seed = 0;  ///< of a request that names none
};

// Each answers one request at once or later. `body` is what parse_body() made of the request's.
// They throw ApiError, infer::Refused, c10::ValueError or FormatError for what they do not take.

void complete(const Backend& backend, const nlohmann::json& body,
              const std::shared_ptr<Reply>& reply);  ///< POST /v1/completions
void chat(const Backend& backend, const nlohmann::json& body,
          const std::shared_ptr<Reply>& reply);  ///< POST /v1/chat/completions

/// POST /tokenize {"prompt" or "messages", "add_special_tokens"} -> {"tokens", "count", ..}
HttpResponse tokenize(const Backend& backend, const nlohmann::json& body);
/// POST /detokenize {"tokens"} -> {"prompt"}
HttpResponse detokenize(const Backend& backend, const nlohmann::json& body);
HttpResponse tokenizer_info(const Backend& backend);  ///< GET /tokenizer_info

HttpResponse list_models(const HostedModels& models);  ///< GET /v1/models
HttpResponse health(const HostedModels& models);       ///< GET /health: slots of all models
HttpResponse metrics(const HostedModels& models, const RequestCounter& requests);  ///< GET /metrics

}  // namespace schmidt::serve
