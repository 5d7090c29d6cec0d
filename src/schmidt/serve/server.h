#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "schmidt/serve/api.h"
#include "schmidt/serve/hosted_models.h"
#include "schmidt/serve/http_server.h"
#include "schmidt/serve/served_model.h"

namespace schmidt::serve {

struct ServeOptions {
  HttpOptions http = {};
  ApiOptions api = {};
  // Of each model.
  int64_t slots = 8;             ///< answers that grow at once
  int64_t context = 0;           ///< tokens of prompt and answer; 0: the model's, at most 4096
  int64_t max_waiting = 1024;    ///< answers that wait for a slot
  int64_t prefill_tokens = 256;  ///< tokens of prompts read between two steps of decoding
};

/// A model as it was loaded, and what the endpoints shall know of it.
struct LoadedModel {
  model::Model model;
  ServedModel served;  ///< name, aliases, tokenizer and facts; the rest is taken from `model`
};

/// Models that answer over HTTP: the endpoints of Api on an HttpServer, each model behind a
/// Scheduler.
class Server {
 public:
  /// Answers from here on, for one model or more with names that differ. Throws as HttpServer and
  /// HostedModels do.
  Server(std::vector<LoadedModel> models, const ServeOptions& options);

  /// Cuts off what still runs.
  ~Server();

  int port() const { return http_.port(); }
  const HostedModels& models() const { return *models_; }

  /// Ends in good order: new requests get status 503, running answers come to their end for
  /// `at_most`, what is left then gets status 503 too. -> whether all came to their end.
  bool drain(std::chrono::milliseconds at_most);

 private:
  HttpServer http_;  // first: replies lead to it until the models have ended
  std::unique_ptr<HostedModels> models_;
  std::unique_ptr<Api> api_;
};

}  // namespace schmidt::serve
