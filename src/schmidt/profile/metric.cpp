#include "schmidt/profile/metric.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <ATen/ops/log_softmax.h>
#include <c10/util/Exception.h>

#include "schmidt/base/named.h"
#include "schmidt/eval/tasks.h"

namespace schmidt::profile {
namespace {

// Rows of logits held at once, as in eval.
constexpr int64_t kRows = 64;

/// The mean over every position of every row but the last one of `of(rows of log
/// probabilities, of the original's, the next tokens)`.
template <typename Sum>
double mean_over_tokens(const Reading& reading, bool with_reference, const Sum& sum) {
  const auto log_p = [&](const torch::Tensor& hidden) {  // [rows, vocab]
    return at::log_softmax(reading.model.logits(hidden).to(torch::kFloat32), -1);
  };
  double total = 0.0;
  int64_t tokens = 0;
  for (size_t b = 0; b < reading.ids.size(); ++b) {
    const int64_t t = reading.ids[b].size(1);
    tokens += reading.ids[b].size(0) * (t - 1);
    const auto batch = static_cast<int64_t>(b);
    const torch::Tensor hidden = reading.hidden.read(batch);
    const torch::Tensor reference =
        with_reference ? reading.reference.read(batch) : torch::Tensor();
    for (int64_t w = 0; w < reading.ids[b].size(0); ++w) {
      for (int64_t begin = 0; begin + 1 < t; begin += kRows) {
        const int64_t rows = std::min(kRows, t - 1 - begin);
        const torch::Tensor next =
            reading.ids[b][w].narrow(0, begin + 1, rows).unsqueeze(1);  // [rows, 1]
        const torch::Tensor q =
            with_reference ? log_p(reference[w].narrow(0, begin, rows)) : torch::Tensor();
        total += sum(log_p(hidden[w].narrow(0, begin, rows)), q, next);
      }
    }
  }
  return total / static_cast<double>(tokens);
}

double sum_of(const torch::Tensor& x) { return x.sum(torch::kFloat64).item<double>(); }

/// KL(original || changed), nats a token.
double measure_kl(const Reading& reading) {
  return mean_over_tokens(reading, true, [](const auto& p, const auto& q, const auto&) {
    return sum_of((q.exp() * (q - p)).sum(-1));
  });
}

double measure_perplexity(const Reading& reading) {
  return std::exp(mean_over_tokens(
      reading, false,
      [](const auto& p, const auto&, const auto& next) { return -sum_of(p.gather(1, next)); }));
}

double measure_accuracy(const Reading& reading) {
  TORCH_INTERNAL_ASSERT(reading.questions != nullptr);
  Batches hidden;
  for (size_t b = 0; b < reading.ids.size(); ++b) {
    hidden.push_back(reading.hidden.read(static_cast<int64_t>(b)));
  }
  return reading.questions->accuracy(reading.questions->log_likelihoods(reading.model, hidden));
}

double same(double value, double) { return value; }
double log_ratio(double value, double dense) { return std::log(value / dense); }
double shortfall(double value, double dense) { return dense - value; }

std::vector<Metric> all_metrics() {
  std::vector<Metric> all = {
      {"kl", "KL divergence, nats a token", false, measure_kl, same, "nats a token"},
      {"perplexity", "perplexity", false, measure_perplexity, log_ratio, "nats a token"},
  };
  for (const eval::Task& task : eval::tasks()) {
    if (task.asks != eval::Asks::kChoice) continue;
    all.push_back({task.name, task.label, true, measure_accuracy, shortfall, "of accuracy"});
  }
  return all;
}

std::vector<const Metric*>& table() {
  static const std::vector<Metric> built_in = all_metrics();
  static std::vector<const Metric*> all = [] {
    std::vector<const Metric*> metrics;
    for (const Metric& metric : built_in) metrics.push_back(&metric);
    return metrics;
  }();
  return all;
}

}  // namespace

std::vector<const Metric*> metrics() { return table(); }

void add_metric(const Metric& metric) {
  TORCH_CHECK_VALUE(std::ranges::find(table(), metric.name, &Metric::name) == table().end(),
                    "[metrics] expected a new name, got ", std::string(metric.name));
  table().push_back(&metric);
}

const Metric& find_metric(std::string_view name) { return *find_named(table(), name, "metric"); }

}  // namespace schmidt::profile
