#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "schmidt/serve/hosted_models.h"
#include "schmidt/serve/http.h"
#include "schmidt/serve/metrics.h"
#include "schmidt/serve/served_model.h"

namespace schmidt::serve {

struct ApiOptions {
  std::string api_key;  ///< asked for as a bearer token; empty: none is asked for
  uint64_t seed = 0;    ///< of what is drawn for requests without a seed
  RequestLimits limits = {};
};

/// The endpoints, without the network: routes, the API key, the choice of the model, errors as
/// JSON. No field of a request names a file.
class Api {
 public:
  /// The models have to outlive it.
  Api(HostedModels& models, ApiOptions options);

  /// Answers, now or later. Never throws; safe for several threads.
  void handle(const HttpRequest& request, const std::shared_ptr<Reply>& reply);

 private:
  void route(const HttpRequest& request, const std::shared_ptr<Reply>& reply);
  bool is_allowed(const HttpRequest& request) const;

  HostedModels& models_;
  const ApiOptions options_;
  RequestCounter requests_;
  std::atomic<uint64_t> unseeded_{0};  // requests so far that named no seed
};

}  // namespace schmidt::serve
