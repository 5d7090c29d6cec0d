#include "schmidt/kernels/causal_attention.h"

#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/attention_x86.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/processor.h"

namespace schmidt::kernels {
namespace {

/// Null where this CPU runs none.
const AttentionKernels* own_kernels() {
  static const Implementations<AttentionKernels> all = attention_implementations();
  static const AttentionKernels* const kernels = fastest(all);
  return kernels;
}

using c10::BFloat16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
           const std::vector<TokenSpan>& spans, std::optional<int64_t> window) {
  TORCH_CHECK_VALUE(q.dim() == 3 && k.dim() == 3 && k.sizes() == v.sizes() &&
                        q.size(0) == k.size(0) && q.size(2) == k.size(2) && k.size(1) >= 1 &&
                        q.size(1) % k.size(1) == 0,
                    "[causal_attention] expected q [n, heads, d], k and v [n, kv_heads, d], got ",
                    q.sizes(), ", ", k.sizes(), " and ", v.sizes());
  TORCH_CHECK_VALUE(window.value_or(1) >= 1,
                    "[causal_attention] expected a window of 1 or more, got ", *window);
  int64_t done = 0;
  for (const auto& [begin, length] : spans) {
    TORCH_CHECK_VALUE(begin >= done && length >= 1 && length <= q.size(0) - begin,
                      "[causal_attention] expected ascending spans within ", q.size(0),
                      " tokens, got ", length, " tokens from ", begin, " on");
    done = begin + length;
  }
}

// Whether each of `length` queries after `past` tokens sees each key: [length, past + length].
torch::Tensor causal_rule(int64_t length, int64_t past, torch::Device device) {
  return at::arange(past + length, device).unsqueeze(0) <=
         at::arange(past, past + length, device).unsqueeze(1);
}

// attention_by_heads with the scores in memory.
torch::Tensor capped_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, const std::optional<torch::Tensor>& mask,
                               const Scores& scores) {
  const int64_t kv_heads = k.size(1);
  const torch::Tensor grouped = q.to(torch::kFloat32).unflatten(1, {kv_heads, -1});
  const auto of_groups = [](const torch::Tensor& x) { return x.to(torch::kFloat32).unsqueeze(2); };
  const torch::Tensor products =
      at::matmul(grouped, of_groups(k).transpose(-1, -2)) * scores.scale_of(q.size(3));
  torch::Tensor capped = at::tanh(products / *scores.softcap) * *scores.softcap;
  if (mask) {
    capped = capped.masked_fill(mask->logical_not(), -std::numeric_limits<double>::infinity());
  }
  return at::matmul(at::softmax(capped, -1), of_groups(v)).flatten(1, 2).to(q.scalar_type());
}

// q [b, t, heads, d], k and v [b, t, kv_heads, d] -> [b, t, heads, d].
torch::Tensor whole_rows(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                         std::optional<int64_t> window, const Scores& scores) {
  return attention_by_heads(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), window, scores)
      .transpose(1, 2);
}

bool equal_rows(const std::vector<TokenSpan>& spans, int64_t n) {
  if (spans.empty()) return false;
  const int64_t t = spans.front().length;
  const bool same =
      std::all_of(spans.begin(), spans.end(), [&](const auto& r) { return r.length == t; });
  return same && static_cast<int64_t>(spans.size()) * t == n;
}

// Lengths of the spans and of the padding between them, in order: pieces of all n tokens.
struct Piece {
  int64_t length;
  bool attends;
};

std::vector<Piece> pieces_of(const std::vector<TokenSpan>& spans, int64_t n) {
  std::vector<Piece> pieces;
  int64_t done = 0;
  for (const auto& [begin, length] : spans) {
    if (begin > done) pieces.push_back({begin - done, false});
    pieces.push_back({length, true});
    done = begin + length;
  }
  if (done < n) pieces.push_back({n - done, false});
  return pieces;
}

struct Problem {
  torch::Tensor q, k, v;
  std::vector<TokenSpan> spans;
  int64_t window;
  double scale;

  template <typename T>
  AttentionProblem<T> view() const {
    return {q.const_data_ptr<T>(),
            k.const_data_ptr<T>(),
            v.const_data_ptr<T>(),
            q.stride(0),
            k.stride(0),
            v.stride(0),
            q.size(0),
            q.size(1),
            k.size(1),
            q.size(2),
            window,
            static_cast<float>(scale),
            spans};
  }
  // Memory for a result like x, where tokens of no span are zeros.
  torch::Tensor like(const torch::Tensor& x) const {
    int64_t tokens = 0;
    for (const TokenSpan& span : spans) tokens += span.length;
    return tokens == x.size(0) ? at::empty(x.sizes(), x.options())
                               : at::zeros(x.sizes(), x.options());
  }
};

struct Attended {
  torch::Tensor out;      // [n, heads, d]
  torch::Tensor log_sum;  // float32 [heads, n]
};

Attended attend(const Problem& problem) {
  Attended result = {problem.like(problem.q),
                     at::empty({problem.q.size(1), problem.q.size(0)},
                               problem.q.options().dtype(torch::kFloat32))};
  float* const log_sum = result.log_sum.mutable_data_ptr<float>();
  if (problem.q.scalar_type() == torch::kFloat32) {
    own_kernels()->float32(problem.view<float>(), result.out.mutable_data_ptr<float>(), log_sum);
  } else {
    own_kernels()->bfloat16(problem.view<BFloat16>(), result.out.mutable_data_ptr<BFloat16>(),
                            log_sum);
  }
  return result;
}

struct CausalAttention : torch::autograd::Function<CausalAttention> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& q,
                               const torch::Tensor& k, const torch::Tensor& v,
                               const std::vector<TokenSpan>& spans, int64_t window, double scale) {
    Attended result = attend({q, k, v, spans, window, scale});
    context->save_for_backward({q, k, v, result.out, result.log_sum});
    std::vector<int64_t> flat;
    for (const TokenSpan& span : spans) flat.insert(flat.end(), {span.begin, span.length});
    context->saved_data["spans"] = flat;
    context->saved_data["window"] = window;
    context->saved_data["scale"] = scale;
    return result.out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    check_first_derivative("causal_attention");
    const variable_list saved = context->get_saved_variables();
    Problem problem{saved[0],
                    saved[1],
                    saved[2],
                    {},
                    context->saved_data["window"].toInt(),
                    context->saved_data["scale"].toDouble()};
    const std::vector<int64_t> flat = context->saved_data["spans"].toIntVector();
    for (size_t i = 0; i < flat.size(); i += 2) problem.spans.push_back({flat[i], flat[i + 1]});
    const torch::Tensor dy = gradients[0].contiguous();
    const torch::Tensor dq = problem.like(saved[0]), dk = problem.like(saved[1]),
                        dv = problem.like(saved[2]);
    own_kernels()->backward(problem.view<BFloat16>(),
                            {saved[3].const_data_ptr<BFloat16>(), saved[4].const_data_ptr<float>(),
                             dy.const_data_ptr<BFloat16>(), dq.mutable_data_ptr<BFloat16>(),
                             dk.mutable_data_ptr<BFloat16>(), dv.mutable_data_ptr<BFloat16>()});
    return {dq, dk, dv, torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

// [n, heads, d] that a kernel of `dtype` can walk through.
bool fits_kernel(const torch::Tensor& x, torch::ScalarType dtype) {
  return x.is_cpu() && x.scalar_type() == dtype && x.numel() > 0 && x.stride(2) == 1 &&
         x.stride(1) == x.size(2) && x.stride(0) % 2 == 0 && x.size(2) % 16 == 0;
}

// Whether a kernel of our own is the fastest here.
bool is_faster_by_own_kernel(torch::ScalarType dtype) {
  if (own_kernels() == nullptr) return false;
  return dtype == torch::kBFloat16 || (dtype == torch::kFloat32 && mkl_leaves_vectors_unused());
}

}  // namespace

std::optional<torch::Tensor> causal_mask(int64_t length, int64_t past,
                                         std::optional<int64_t> window, torch::Device device) {
  const bool slides = window && *window < past + length;
  if (!slides && past == 0) return std::nullopt;
  const torch::Tensor seen = causal_rule(length, past, device);
  if (!slides) return seen;
  const torch::Tensor position = at::arange(past, past + length, device).unsqueeze(1);
  const torch::Tensor key = at::arange(past + length, device).unsqueeze(0);
  return seen.logical_and(key > position - *window);
}

torch::Tensor attention_by_heads(const torch::Tensor& q, const torch::Tensor& k,
                                 const torch::Tensor& v, std::optional<int64_t> window,
                                 const Scores& scores) {
  const int64_t past = k.size(2) - q.size(2);
  auto mask = causal_mask(q.size(2), past, window, q.device());
  if (scores.softcap) {
    if (!mask) mask = causal_rule(q.size(2), past, q.device());
    return capped_attention(q, k, v, mask, scores);
  }
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0, /*is_causal=*/!mask,
                                          scores.scale, /*enable_gqa=*/q.size(1) != k.size(1));
}

torch::Tensor causal_attention_reference(const torch::Tensor& q, const torch::Tensor& k,
                                         const torch::Tensor& v,
                                         const std::vector<TokenSpan>& spans,
                                         std::optional<int64_t> window, const Scores& scores) {
  check(q, k, v, spans, window);
  if (equal_rows(spans, q.size(0))) {
    const auto rows = [&](const torch::Tensor& x) {
      return x.unflatten(0, {-1, spans.front().length});
    };
    return whole_rows(rows(q), rows(k), rows(v), window, scores).flatten(0, 1);
  }
  const std::vector<Piece> pieces = pieces_of(spans, q.size(0));
  std::vector<int64_t> lengths;
  for (const Piece& piece : pieces) lengths.push_back(piece.length);
  const auto split = [&](const torch::Tensor& x) { return x.split_with_sizes(lengths); };
  const std::vector<torch::Tensor> queries = split(q), keys = split(k), values = split(v);
  std::vector<torch::Tensor> outputs;
  for (size_t i = 0; i < pieces.size(); ++i) {
    outputs.push_back(pieces[i].attends ? whole_rows(queries[i].unsqueeze(0), keys[i].unsqueeze(0),
                                                     values[i].unsqueeze(0), window, scores)
                                              .squeeze(0)
                                        : at::zeros(queries[i].sizes(), q.options()));
  }
  return outputs.empty() ? at::zeros(q.sizes(), q.options()) : at::cat(outputs);
}

torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, const std::vector<TokenSpan>& spans,
                               std::optional<int64_t> window, const Scores& scores) {
  check(q, k, v, spans, window);
  const torch::ScalarType dtype = q.scalar_type();
  const bool records = records_gradient({&q, &k, &v});
  if (!is_faster_by_own_kernel(dtype) || !fits_kernel(q, dtype) || !fits_kernel(k, dtype) ||
      !fits_kernel(v, dtype) || scores.softcap || (records && dtype != torch::kBFloat16)) {
    return causal_attention_reference(q, k, v, spans, window, scores);
  }
  const int64_t width = window.value_or(std::numeric_limits<int64_t>::max());
  const double scale = scores.scale_of(q.size(2));
  if (records) return CausalAttention::apply(q, k, v, spans, width, scale);
  return attend({q, k, v, spans, width, scale}).out;
}

}  // namespace schmidt::kernels
