#include "schmidt/model/attention.h"

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scaled_dot_product_attention.h>

namespace schmidt::model {
namespace {

// What `length` queries after `past` earlier tokens may see, bool [length, past +
// length]; none where the causal rule alone, or nothing, has to be said.
std::optional<torch::Tensor> visibility(int64_t length, int64_t past, std::optional<int64_t> window,
                                        torch::Device device) {
  const bool slides = window && *window < past + length;
  if (!slides && past == 0) return std::nullopt;
  const torch::Tensor position = at::arange(past, past + length, device).unsqueeze(1);
  const torch::Tensor key = at::arange(past + length, device).unsqueeze(0);
  torch::Tensor seen = key <= position;
  return slides ? seen.logical_and(key > position - *window) : seen;
}

// q [b, heads, t, d], k and v [b, kv_heads, past + t, d] -> [b, t, heads, d].
torch::Tensor blocked_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, std::optional<int64_t> window) {
  const int64_t past = k.size(2) - q.size(2);
  const auto mask = visibility(q.size(2), past, window, q.device());
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0,
                                          /*is_causal=*/!mask, /*scale=*/std::nullopt,
                                          /*enable_gqa=*/q.size(1) != k.size(1))
      .transpose(1, 2);
}

}  // namespace

torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, std::optional<int64_t> window) {
  return blocked_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), window);
}

torch::Tensor step_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                             const StepPlan& plan, std::optional<int64_t> window,
                             const torch::Tensor& keys, const torch::Tensor& values) {
  for (const auto& [row, begin, length, past] : plan.runs) {
    keys[row].narrow(1, past, length).copy_(k.narrow(0, begin, length).transpose(0, 1));
    values[row].narrow(1, past, length).copy_(v.narrow(0, begin, length).transpose(0, 1));
  }
  if (plan.short_runs && q.is_cpu()) {
    kernels::CachedQueries queries = plan.queries;
    queries.window = window;
    return kernels::cached_attention(q, keys, values, queries,
                                     1.0 / std::sqrt(static_cast<double>(q.size(2))));
  }
  torch::Tensor out = at::empty_like(q);
  for (const auto& [row, begin, length, past] : plan.runs) {
    // A window wider than one run hides the oldest keys from all of it.
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
