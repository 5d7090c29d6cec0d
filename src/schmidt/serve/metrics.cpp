#include "schmidt/serve/metrics.h"

#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace schmidt::serve {
namespace {

using infer::SchedulerStats;

struct Sample {
  const char* suffix;  // of the series' name
  double (*value)(const SchedulerStats& stats);
};

// What is known of each model: a metric with a sample or more.
struct Metric {
  const char* name;
  const char* type;
  const char* help;
  std::vector<Sample> samples;
};

template <auto field>
double value_of(const SchedulerStats& stats) {
  return static_cast<double>(stats.*field);
}

template <auto field>
Metric metric(const char* name, const char* type, const char* help) {
  return {name, type, help, {{"", value_of<field>}}};
}

std::vector<Metric> metrics_of_models() {
  using S = SchedulerStats;
  return {
      metric<&S::slots>("slots", "gauge", "Answers that may grow at once."),
      metric<&S::running>("slots_busy", "gauge", "Answers that grow now."),
      metric<&S::waiting>("queue_length", "gauge", "Answers that wait for a slot."),
      metric<&S::cache_bytes>("kv_cache_bytes", "gauge", "Memory that keys and values take."),
      metric<&S::completed>("answers_completed_total", "counter",
                            "Answers that came to their end."),
      metric<&S::cancelled>("answers_cancelled_total", "counter", "Answers whose client left."),
      metric<&S::failed>("answers_failed_total", "counter", "Answers that the model failed at."),
      metric<&S::refused>("answers_refused_total", "counter",
                          "Answers refused by a full or closed queue."),
      metric<&S::prompt_tokens>("prompt_tokens_total", "counter", "Tokens of prompts."),
      metric<&S::reused_tokens>("prompt_tokens_reused_total", "counter",
                                "Those of them that a slot held already."),
      metric<&S::generated_tokens>("generated_tokens_total", "counter", "Tokens drawn."),
      metric<&S::prefill_steps>("prefill_steps_total", "counter",
                                "Steps of the model over prompts."),
      metric<&S::decode_steps>("decode_steps_total", "counter", "Steps of the model over answers."),
      metric<&S::prefill_seconds>("prefill_seconds_total", "counter",
                                  "Time of the steps over prompts."),
      metric<&S::decode_seconds>("decode_seconds_total", "counter",
                                 "Time of the steps over answers."),
      {"time_to_first_token_seconds",
       "summary",
       "From the request to its first token.",
       {{"_sum", value_of<&S::first_token_seconds>}, {"_count", value_of<&S::first_tokens>}}},
  };
}

std::string head(const char* name, const char* type, const char* help) {
  return fmt::format("# HELP schmidt_{0} {1}\n# TYPE schmidt_{0} {2}\n", name, help, type);
}

// A label's value as the format wants it between quotation marks.
std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
    } else {
      if (c == '\\' || c == '"') text += '\\';
      text += c;
    }
  }
  return text;
}

}  // namespace

void RequestCounter::count(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++counts_[{path, status}];
}

std::map<std::pair<std::string, int>, int64_t> RequestCounter::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::string metrics_text(const HostedModels& models, const RequestCounter& requests) {
  std::vector<std::pair<std::string, SchedulerStats>> stats;
  for (const HostedModel& model : models.all()) {
    stats.emplace_back(escaped(model.served.name), model.scheduler.stats());
  }
  std::string text;
  for (const Metric& metric : metrics_of_models()) {
    text += head(metric.name, metric.type, metric.help);
    for (const auto& [model, of_model] : stats) {
      for (const Sample& sample : metric.samples) {
        text += fmt::format("schmidt_{}{}{{model=\"{}\"}} {}\n", metric.name, sample.suffix, model,
                            sample.value(of_model));
      }
    }
  }
  text += head("http_requests_total", "counter", "Requests answered, by path and status.");
  for (const auto& [key, count] : requests.counts()) {
    text += fmt::format("schmidt_http_requests_total{{path=\"{}\",status=\"{}\"}} {}\n",
                        escaped(key.first), key.second, count);
  }
  return text;
}

}  // namespace schmidt::serve
