#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "schmidt/infer/scheduler.h"
#include "schmidt/serve/api.h"
#include "schmidt/serve/http_server.h"
#include "schmidt/serve/served_model.h"

namespace schmidt::serve {

struct ServeOptions {
  HttpOptions http = {};
  ApiOptions api = {};
  int64_t slots = 8;             ///< answers that grow at once
  int64_t context = 0;           ///< tokens of prompt and answer; 0: the model's, at most 4096
  int64_t max_waiting = 1024;    ///< answers that wait for a slot
  int64_t prefill_tokens = 256;  ///< tokens of prompts read between two steps of decoding
};

/// A model that answers over HTTP: the endpoints of Api on an HttpServer, the model behind a
/// Scheduler.
class Server {
 public:
  /// Answers from here on. `served` needs name, tokenizer and facts; the rest is taken from
  /// `model`. Throws as HttpServer and Scheduler do.
  Server(model::Model model, ServedModel served, const ServeOptions& options);

  /// Cuts off what still runs.
  ~Server();

  int port() const { return http_.port(); }
  const infer::Scheduler& scheduler() const { return *scheduler_; }

  /// Ends in good order: new requests get status 503, running answers come to their end for
  /// `at_most`, what is left then gets status 503 too. -> whether all came to their end.
  bool drain(std::chrono::milliseconds at_most);

 private:
  HttpServer http_;  // first: replies lead to it until the scheduler has ended
  ServedModel served_;
  std::unique_ptr<infer::Scheduler> scheduler_;
  std::unique_ptr<Api> api_;
};

}  // namespace schmidt::serve
