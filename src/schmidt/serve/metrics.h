#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "schmidt/serve/hosted_models.h"

namespace schmidt::serve {

/// Counts answered requests by path and status. Safe for several threads.
class RequestCounter {
 public:
  /// `path` has to be one of few: each is a series of its own.
  void count(const std::string& path, int status);
  std::map<std::pair<std::string, int>, int64_t> counts() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> counts_;
};

/// All figures in Prometheus's text format, version 0.0.4; those of a model with its name as the
/// label "model".
std::string metrics_text(const HostedModels& models, const RequestCounter& requests);

}  // namespace schmidt::serve
