#include "schmidt/profile/metric.h"

#include <array>
#include <cmath>
#include <string>

#include <ATen/ops/log_softmax.h>
#include <c10/util/Exception.h>

#include "schmidt/base/named.h"

namespace schmidt::profile {
namespace {

// Rows of logits held at once, as in eval.
constexpr int64_t kRows = 64;

/// The mean over every position of every window but the last one of `of(rows of log
/// probabilities, of the original's, the next tokens)`.
template <typename Sum>
double mean_over_tokens(const Reading& reading, bool with_reference, const Sum& sum) {
  const int64_t t = reading.windows.size(1);
  const auto log_p = [&](const torch::Tensor& hidden) {  // [rows, vocab]
    return at::log_softmax(reading.model.logits(hidden).to(torch::kFloat32), -1);
  };
  double total = 0.0;
  for (int64_t w = 0; w < reading.windows.size(0); ++w) {
    for (int64_t begin = 0; begin + 1 < t; begin += kRows) {
      const int64_t rows = std::min(kRows, t - 1 - begin);
      const torch::Tensor next =
          reading.windows[w].narrow(0, begin + 1, rows).unsqueeze(1);  // [rows, 1]
      const torch::Tensor q =
          with_reference ? log_p(reading.reference[w].narrow(0, begin, rows)) : torch::Tensor();
      total += sum(log_p(reading.hidden[w].narrow(0, begin, rows)), q, next);
    }
  }
  return total / static_cast<double>(reading.windows.size(0) * (t - 1));
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

constexpr std::array<Metric, 2> kMetrics = {{
    {"kl", "KL divergence, nats a token", measure_kl, [](double value, double) { return value; }},
    {"perplexity", "perplexity", measure_perplexity,
     [](double value, double dense) { return std::log(value / dense); }},
}};

}  // namespace

std::span<const Metric> metrics() { return kMetrics; }

const Metric& find_metric(std::string_view name) { return find_named(kMetrics, name, "metric"); }

}  // namespace schmidt::profile
