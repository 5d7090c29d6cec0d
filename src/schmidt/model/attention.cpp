#include "schmidt/model/attention.h"

#include <cmath>

#include <ATen/ops/empty_like.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "schmidt/kernels/causal_attention.h"

namespace schmidt::model {
namespace {

// q [b, heads, t, d], k and v [b, kv_heads, past + t, d] -> [b, t, heads, d].
torch::Tensor blocked_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, std::optional<int64_t> window) {
  const int64_t past = k.size(2) - q.size(2);
  const auto mask = kernels::causal_mask(q.size(2), past, window, q.device());
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0,
                                          /*is_causal=*/!mask, /*scale=*/std::nullopt,
                                          /*enable_gqa=*/q.size(1) != k.size(1))
      .transpose(1, 2);
}

std::vector<kernels::TokenSpan> whole_rows(int64_t b, int64_t t) {
  std::vector<kernels::TokenSpan> spans;
  for (int64_t row = 0; row < b && t > 0; ++row) spans.push_back({row * t, t});
  return spans;
}

}  // namespace

torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, std::optional<int64_t> window,
                               const Packing& packing) {
  const auto tokens = [](const torch::Tensor& x) { return x.flatten(0, 1); };
  return kernels::causal_attention(
             tokens(q), tokens(k), tokens(v),
             packing.spans.empty() ? whole_rows(q.size(0), q.size(1)) : packing.spans, window)
      .view(q.sizes());
}

torch::Tensor step_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                             const StepPlan& plan, std::optional<int64_t> window,
                             const torch::Tensor& keys, const torch::Tensor& values) {
  for (const auto& [row, begin, length, past] : plan.spans) {
    keys[row].narrow(1, past, length).copy_(k.narrow(0, begin, length).transpose(0, 1));
    values[row].narrow(1, past, length).copy_(v.narrow(0, begin, length).transpose(0, 1));
  }
  if (plan.short_spans && q.is_cpu()) {
    kernels::CachedQueries queries = plan.queries;
    queries.window = window;
    return kernels::cached_attention(q, keys, values, queries,
                                     1.0 / std::sqrt(static_cast<double>(q.size(2))));
  }
  torch::Tensor out = at::empty_like(q);
  for (const auto& [row, begin, length, past] : plan.spans) {
    // A window wider than one span hides the oldest keys from all of it.
    const int64_t seen = past + length;
    const int64_t first = window ? std::max<int64_t>(0, seen - length - *window + 1) : 0;
    const auto cached = [&, row = row](const torch::Tensor& cache) {
      return cache.narrow(0, row, 1).narrow(2, first, seen - first);
    };
    const torch::Tensor queries = q.narrow(0, begin, length).transpose(0, 1).unsqueeze(0);
    out.narrow(0, begin, length)
        .copy_(blocked_attention(queries, cached(keys), cached(values), window).squeeze(0));
  }
  return out;
}

}  // namespace schmidt::model
