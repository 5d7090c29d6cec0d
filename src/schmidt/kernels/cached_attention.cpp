#include "schmidt/kernels/cached_attention.h"

#include <cmath>
#include <limits>

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

// One query head over `count` keys and values, each [count, d], packed.
template <typename T>
struct HeadTask {
  const T* q;
  const T* keys;
  const T* values;
  T* out;
  int64_t count;
  int64_t d;
  float scale;
};

// `buffer` holds count + 2 d floats. Inlined into one function for each instruction
// set, whose vector width the loops then take.
template <typename T>
[[gnu::always_inline]] inline void attend(const HeadTask<T>& task, float* buffer) {
  const int64_t d = task.d;
  float* q = buffer;
  float* sum = buffer + d;
  float* weight = buffer + 2 * d;
  for (int64_t i = 0; i < d; ++i) {
    q[i] = widen(task.q[i]) * task.scale;
    sum[i] = 0.0F;
  }
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < task.count; ++j) {
    const T* key = task.keys + j * d;
    float score = 0.0F;
#pragma omp simd reduction(+ : score)
    for (int64_t i = 0; i < d; ++i) score += q[i] * widen(key[i]);
    weight[j] = score;
    largest = std::max(largest, score);
  }
  float total = 0.0F;
  for (int64_t j = 0; j < task.count; ++j) {
    weight[j] = std::exp(weight[j] - largest);
    total += weight[j];
  }
  for (int64_t j = 0; j < task.count; ++j) {
    const T* value = task.values + j * d;
    const float w = weight[j];
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) sum[i] += w * widen(value[i]);
  }
  for (int64_t i = 0; i < d; ++i) task.out[i] = T(sum[i] / total);
}

template <typename T>
void attend_portable(const HeadTask<T>& task, float* buffer) {
  attend(task, buffer);
}

#if defined(__x86_64__)
template <typename T>
[[gnu::target("avx2,fma")]] void attend_avx2(const HeadTask<T>& task, float* buffer) {
  attend(task, buffer);
}
#endif

template <typename T>
Implementations<void (*)(const HeadTask<T>&, float*)> attend_implementations() {
  return {
    {InstructionSet::kPortable, attend_portable<T>},
#if defined(__x86_64__)
        {InstructionSet::kAvx2, attend_avx2<T>},
#endif
  };
}

template <typename T>
void attend_all(const torch::Tensor& q, const torch::Tensor& keys, const torch::Tensor& values,
                const CachedQueries& queries, double scale, const torch::Tensor& out) {
  static const auto kernel = *fastest(attend_implementations<T>());
  const int64_t heads = q.size(1);
  const int64_t d = q.size(2);
  const int64_t kv_heads = keys.size(1);
  const int64_t capacity = keys.size(2);
  const int64_t longest = *std::max_element(queries.positions.begin(), queries.positions.end()) + 1;
  const int64_t grain = std::max<int64_t>(1, kGrain / (longest * d));
  at::parallel_for(0, q.size(0) * heads, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> buffer(longest + 2 * d);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t token = item / heads;
      const int64_t kv_head = item % heads / (heads / kv_heads);
      const int64_t seen = queries.positions[token] + 1;
      const int64_t count = std::min(seen, queries.window.value_or(seen));
      const int64_t first =
          ((queries.rows[token] * kv_heads + kv_head) * capacity + seen - count) * d;
      kernel({q.const_data_ptr<T>() + item * d, keys.const_data_ptr<T>() + first,
              values.const_data_ptr<T>() + first, out.mutable_data_ptr<T>() + item * d, count, d,
              static_cast<float>(scale)},
             buffer.data());
    }
  });
}

void check(const torch::Tensor& q, const torch::Tensor& keys, const torch::Tensor& values,
           const CachedQueries& queries) {
  TORCH_CHECK_VALUE(q.dim() == 3 && keys.dim() == 4 && keys.sizes() == values.sizes() &&
                        keys.size(3) == q.size(2) && q.size(1) % keys.size(1) == 0,
                    "[cached_attention] expected q [n, heads, d], keys and values [batch, "
                    "kv_heads, capacity, d], got ",
                    q.sizes(), ", ", keys.sizes(), " and ", values.sizes());
  TORCH_CHECK_VALUE(std::cmp_equal(queries.rows.size(), q.size(0)) &&
                        std::cmp_equal(queries.positions.size(), q.size(0)),
                    "[cached_attention] expected ", q.size(0), " rows and positions, got ",
                    queries.rows.size(), " and ", queries.positions.size());
  for (int64_t i = 0; i < q.size(0); ++i) {
    TORCH_CHECK_VALUE(queries.rows[i] >= 0 && queries.rows[i] < keys.size(0) &&
                          queries.positions[i] >= 0 && queries.positions[i] < keys.size(2),
                      "[cached_attention] expected a row below ", keys.size(0),
                      " and a position below ", keys.size(2), ", got ", queries.rows[i], " and ",
                      queries.positions[i]);
  }
  TORCH_CHECK_VALUE(queries.window.value_or(1) >= 1,
                    "[cached_attention] expected a window of 1 or more, got ", *queries.window);
}

}  // namespace

torch::Tensor cached_attention_reference(const torch::Tensor& q, const torch::Tensor& keys,
                                         const torch::Tensor& values, const CachedQueries& queries,
                                         double scale) {
  std::vector<torch::Tensor> outputs;
  for (int64_t token = 0; token < q.size(0); ++token) {
    const int64_t seen = queries.positions[token] + 1;
    const int64_t count = std::min(seen, queries.window.value_or(seen));
    const int64_t kv_heads = keys.size(1);
    const auto view = [&](const torch::Tensor& cache) {  // [kv_heads, count, d]
      return cache[queries.rows[token]].narrow(1, seen - count, count).to(torch::kFloat32);
    };
    // [kv_heads, heads / kv_heads, d]
    const torch::Tensor grouped = q[token].reshape({kv_heads, -1, q.size(2)}).to(torch::kFloat32);
    const torch::Tensor scores = at::matmul(grouped, view(keys).transpose(1, 2)) * scale;
    const torch::Tensor mixed = at::matmul(at::softmax(scores, -1), view(values));
    outputs.push_back(mixed.reshape({q.size(1), q.size(2)}).to(q.scalar_type()));
  }
  return outputs.empty() ? at::empty_like(q) : at::stack(outputs);
}

torch::Tensor cached_attention(const torch::Tensor& q, const torch::Tensor& keys,
                               const torch::Tensor& values, const CachedQueries& queries,
                               double scale) {
  check(q, keys, values, queries);
  const bool fast = fast_path({&q, &keys, &values}) && keys.is_contiguous() &&
                    values.is_contiguous() && q.numel() > 0;
  if (!fast) return cached_attention_reference(q, keys, values, queries, scale);
  const torch::Tensor packed = q.contiguous();
  torch::Tensor out = at::empty_like(packed);
  if (q.scalar_type() == torch::kFloat32) {
    attend_all<float>(packed, keys, values, queries, scale, out);
  } else {
    attend_all<c10::BFloat16>(packed, keys, values, queries, scale, out);
  }
  return out;
}

}  // namespace schmidt::kernels
