#include "schmidt/serve/metrics.h"

#include <fmt/format.h>

namespace schmidt::serve {
namespace {

struct Series {
  const char* name;
  const char* type;
  const char* help;
  double value;
};

}  // namespace

void RequestCounter::count(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++counts_[{path, status}];
}

std::map<std::pair<std::string, int>, int64_t> RequestCounter::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::string metrics_text(const infer::SchedulerStats& s, const RequestCounter& requests) {
  const auto number = [](int64_t n) { return static_cast<double>(n); };
  const Series all[] = {
      {"slots", "gauge", "Answers that may grow at once.", number(s.slots)},
      {"slots_busy", "gauge", "Answers that grow now.", number(s.running)},
      {"queue_length", "gauge", "Answers that wait for a slot.", number(s.waiting)},
      {"kv_cache_bytes", "gauge", "Memory that keys and values take.", number(s.cache_bytes)},
      {"answers_completed_total", "counter", "Answers that came to their end.",
       number(s.completed)},
      {"answers_cancelled_total", "counter", "Answers whose client left.", number(s.cancelled)},
      {"answers_failed_total", "counter", "Answers that the model failed at.", number(s.failed)},
      {"answers_refused_total", "counter", "Answers refused by a full or closed queue.",
       number(s.refused)},
      {"prompt_tokens_total", "counter", "Tokens of prompts.", number(s.prompt_tokens)},
      {"prompt_tokens_reused_total", "counter", "Those of them that a slot held already.",
       number(s.reused_tokens)},
      {"generated_tokens_total", "counter", "Tokens drawn.", number(s.generated_tokens)},
      {"prefill_steps_total", "counter", "Steps of the model over prompts.",
       number(s.prefill_steps)},
      {"decode_steps_total", "counter", "Steps of the model over answers.", number(s.decode_steps)},
      {"prefill_seconds_total", "counter", "Time of the steps over prompts.", s.prefill_seconds},
      {"decode_seconds_total", "counter", "Time of the steps over answers.", s.decode_seconds},
  };
  std::string text;
  for (const Series& series : all) {
    text += fmt::format("# HELP schmidt_{0} {1}\n# TYPE schmidt_{0} {2}\nschmidt_{0} {3}\n",
                        series.name, series.help, series.type, series.value);
  }
  text += fmt::format(
      "# HELP schmidt_time_to_first_token_seconds From the request to its first token.\n"
      "# TYPE schmidt_time_to_first_token_seconds summary\n"
      "schmidt_time_to_first_token_seconds_sum {}\n"
      "schmidt_time_to_first_token_seconds_count {}\n",
      s.first_token_seconds, s.first_tokens);
  text +=
      "# HELP schmidt_http_requests_total Requests answered, by path and status.\n"
      "# TYPE schmidt_http_requests_total counter\n";
  for (const auto& [key, count] : requests.counts()) {
    text += fmt::format("schmidt_http_requests_total{{path=\"{}\",status=\"{}\"}} {}\n", key.first,
                        key.second, count);
  }
  return text;
}

}  // namespace schmidt::serve
