#include "schmidt/model/attention.h"

#include <ATen/ops/empty.h>

#include "schmidt/kernels/causal_attention.h"

namespace schmidt::model {
namespace {

// Long spans of rows that held nothing before. What stands for other tokens is not defined.
torch::Tensor attend_beginnings(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, const StepPlan& plan,
                                std::optional<int64_t> window, const KvCache& cache, int64_t layer,
                                const kernels::Scores& scores) {
  std::vector<kernels::TokenSpan> spans;
  for (const StepPlan::Span& span : plan.beginnings) spans.push_back({span.begin, span.length});
  if (spans.empty()) return at::empty(q.sizes(), q.options());
  if (cache.keeps_all_bits()) return kernels::causal_attention(q, k, v, spans, window, scores);
  const torch::Tensor keys = at::empty(k.sizes(), k.options());
  const torch::Tensor values = at::empty(v.sizes(), v.options());
  for (const auto& [row, begin, length, past] : plan.beginnings) {
    const kernels::KeysAndValues kept =
        kernels::gather_from_cache(cache.rows()[row], layer, 0, length, k.scalar_type());
    keys.narrow(0, begin, length).copy_(kept.keys);
    values.narrow(0, begin, length).copy_(kept.values);
  }
  return kernels::causal_attention(q, keys, values, spans, window, scores);
}

std::vector<kernels::TokenSpan> whole_rows(int64_t b, int64_t t) {
  std::vector<kernels::TokenSpan> spans;
  for (int64_t row = 0; row < b && t > 0; ++row) spans.push_back({row * t, t});
  return spans;
}

}  // namespace

torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, std::optional<int64_t> window,
                               const Packing& packing, const kernels::Scores& scores) {
  const auto tokens = [](const torch::Tensor& x) { return x.flatten(0, 1); };
  return kernels::causal_attention(
             tokens(q), tokens(k), tokens(v),
             packing.spans.empty() ? whole_rows(q.size(0), q.size(1)) : packing.spans, window,
             scores)
      .view(q.sizes());
}

torch::Tensor step_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                             const StepPlan& plan, std::optional<int64_t> window,
                             const KvCache& cache, int64_t layer, const kernels::Scores& scores) {
  for (const auto& [row, begin, length, past] : plan.spans) {
    kernels::store_in_cache(k.narrow(0, begin, length), v.narrow(0, begin, length),
                            cache.rows()[row], layer, past);
  }
  const auto singly = [&](const torch::Tensor& queries) {
    kernels::CachedQueries of_layer = plan.queries;
    of_layer.window = window;
    return kernels::cached_attention(queries, cache.rows(), layer, of_layer,
                                     scores.scale_of(q.size(2)), scores.softcap);
  };
  if (!plan.single_tokens.defined()) return singly(q);
  torch::Tensor out = attend_beginnings(q, k, v, plan, window, cache, layer, scores);
  for (const StepPlan::Span& span : plan.continuations) {
    // A window wider than the span hides the oldest keys from all of it.
    const int64_t first = window ? std::max<int64_t>(0, span.past - *window + 1) : 0;
    const int64_t seen = span.past + span.length - first;
    const kernels::KeysAndValues cached =
        kernels::gather_from_cache(cache.rows()[span.row], layer, first, seen, q.scalar_type());
    const auto by_head = [](const torch::Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
    out.narrow(0, span.begin, span.length)
        .copy_(kernels::attention_by_heads(by_head(q.narrow(0, span.begin, span.length)),
                                           by_head(cached.keys), by_head(cached.values), window,
                                           scores)
                   .transpose(1, 2)
                   .squeeze(0));
  }
  if (!plan.queries.rows.empty()) {
    out.index_copy_(0, plan.single_tokens, singly(q.index_select(0, plan.single_tokens)));
  }
  return out;
}

}  // namespace schmidt::model
