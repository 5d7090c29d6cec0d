#include "schmidt/eval/perplexity.h"

#include <algorithm>
#include <cmath>

#include <c10/core/InferenceMode.h>

namespace schmidt::eval {
namespace {

// Rows of logits held at once: 64 x 128 K vocabulary x float32 is 32 MB.
constexpr int64_t kRows = 64;

// Sums over scored tokens.
struct NllSum {
  double sum = 0.0;
  double squares = 0.0;
  int64_t tokens = 0;

  void add(const torch::Tensor& nll) {  // [rows]
    const torch::Tensor wide = nll.to(torch::kFloat64);
    TORCH_CHECK_VALUE(!wide.isnan().any().item<bool>(),
                      "[eval] expected probabilities, got values that are no numbers: the model's "
                      "products overflow");
    sum += wide.sum().item<double>();
    squares += wide.square().sum().item<double>();
    tokens += wide.numel();
  }

  TextScore score() const {
    const double n = static_cast<double>(tokens);
    const double mean = sum / n;
    const double variance = tokens > 1 ? (squares - n * mean * mean) / (n - 1.0) : 0.0;
    return {tokens, mean, std::sqrt(std::max(variance, 0.0) / n), std::exp(mean)};
  }
};

// log P(next token) of each row: hidden [rows, hidden] -> [rows, vocab], float32.
torch::Tensor log_probabilities(const model::Model& model, const torch::Tensor& hidden) {
  return torch::log_softmax(model.logits(hidden).to(torch::kFloat32), -1);
}

double quantile(const std::vector<float>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = at - static_cast<double>(below);
  return sorted[below] * (1.0 - part) + sorted[above] * part;
}

Divergence summarize(std::vector<float> kl, int64_t agreements) {
  std::sort(kl.begin(), kl.end());
  Divergence d;
  for (const float value : kl) d.mean += value;
  const auto n = static_cast<double>(kl.size());
  d.mean /= n;
  d.median = quantile(kl, 0.5);
  d.p90 = quantile(kl, 0.9);
  d.p99 = quantile(kl, 0.99);
  d.p999 = quantile(kl, 0.999);
  d.max = kl.back();
  d.top1_agreement = static_cast<double>(agreements) / n;
  return d;
}

void check(const model::Model& model, const model::Model* reference,
           const std::vector<int64_t>& ids, const PerplexityOptions& options) {
  TORCH_CHECK_VALUE(options.context >= 2, "[eval] expected a context of 2 or more tokens, got ",
                    options.context);
  TORCH_CHECK_VALUE(options.context <= model.config().max_positions,
                    "[eval] expected a context within the model's ", model.config().max_positions,
                    " positions, got ", options.context);
  TORCH_CHECK_VALUE(options.max_tokens >= 0, "[eval] expected a number of tokens, got ",
                    options.max_tokens);
  TORCH_CHECK_VALUE(static_cast<int64_t>(ids.size()) >= options.context, "[eval] the text has ",
                    ids.size(), " tokens; expected at least one window of ", options.context);
  const int64_t vocab = model.config().vocab_size;
  TORCH_CHECK_VALUE(reference == nullptr || reference->config().vocab_size == vocab,
                    "[eval] expected models of one vocabulary, got ", vocab, " and ",
                    reference == nullptr ? 0 : reference->config().vocab_size, " tokens");
  for (const int64_t id : ids) {
    TORCH_CHECK_VALUE(id >= 0 && id < vocab, "[eval] token id ", id,
                      " is outside the model's vocabulary of ", vocab);
  }
}

}  // namespace

Evaluation evaluate_text(const model::Model& model, const model::Model* reference,
                         const std::vector<int64_t>& ids, const PerplexityOptions& options,
                         const ProgressFn& progress) {
  check(model, reference, ids, options);
  const c10::InferenceMode guard;
  auto available = static_cast<int64_t>(ids.size());
  if (options.max_tokens > 0) available = std::min(available, options.max_tokens);
  const int64_t windows = available / options.context;
  TORCH_CHECK_VALUE(windows > 0, "[eval] expected tokens for at least one window of ",
                    options.context, ", got ", options.max_tokens);

  const torch::Tensor all = torch::tensor(ids, torch::kInt64);  // [tokens]
  NllSum model_sum, reference_sum;
  std::vector<float> kl;
  int64_t agreements = 0;
  for (int64_t w = 0; w < windows; ++w) {
    if (progress) {
      progress({"evaluate", "", w * options.context, windows * options.context, "tokens"});
    }
    const torch::Tensor window =
        all.narrow(0, w * options.context, options.context).to(model.device());
    const torch::Tensor input = window.unsqueeze(0);  // [1, context]
    const torch::Tensor h = model.hidden(input)[0];   // [context, hidden]
    const torch::Tensor h_ref =
        reference != nullptr ? reference->hidden(input)[0] : torch::Tensor();
    for (int64_t begin = 0; begin + 1 < options.context; begin += kRows) {
      const int64_t rows = std::min(kRows, options.context - 1 - begin);
      const torch::Tensor next = window.narrow(0, begin + 1, rows).unsqueeze(1);  // [rows, 1]
      const torch::Tensor log_p = log_probabilities(model, h.narrow(0, begin, rows));
      model_sum.add(-log_p.gather(1, next).squeeze(1));
      if (reference == nullptr) continue;
      const torch::Tensor log_q = log_probabilities(*reference, h_ref.narrow(0, begin, rows));
      reference_sum.add(-log_q.gather(1, next).squeeze(1));
      const torch::Tensor d = (log_q.exp() * (log_q - log_p)).sum(-1).cpu().contiguous();  // [rows]
      kl.insert(kl.end(), d.data_ptr<float>(), d.data_ptr<float>() + rows);
      agreements += (log_p.argmax(-1) == log_q.argmax(-1)).sum().item<int64_t>();
    }
  }

  Evaluation result;
  result.model = model_sum.score();
  if (reference != nullptr) {
    result.reference = reference_sum.score();
    result.divergence = summarize(std::move(kl), agreements);
  }
  return result;
}

}  // namespace schmidt::eval
