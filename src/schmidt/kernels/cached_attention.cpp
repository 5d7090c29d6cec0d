#include "schmidt/kernels/cached_attention.h"

#include <algorithm>
#include <limits>

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/held_type.h"
#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

// One query head over positions first .. first + count - 1 of a row.
template <typename C>
struct HeadTask {
  const float* q;                    // [d], times the scale of scores
  const CacheMemory::Block* blocks;  // of the row
  int64_t numbers, scales;           // where the layer's head begins in each
  int64_t first, count, tokens, d;
  float softcap;   // of scores; 0: none
  float* weights;  // [count], for the kernel's use
  float* out;      // [d]
};

// sum [kLanes] += factors [count] rows [count, kLanes], with the sums in registers.
template <int64_t kLanes, typename C>
SCHMIDT_INLINE_LOOP void add_columns(const C* rows, int64_t stride, const float* factors,
                                     int64_t count, float* sum) {
  float local[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) local[i] = sum[i];
  for (int64_t j = 0; j < count; ++j) {
    const float factor = factors[j];
#pragma omp simd
    for (int64_t i = 0; i < kLanes; ++i) local[i] += factor * widen(rows[j * stride + i]);
  }
  for (int64_t i = 0; i < kLanes; ++i) sum[i] = local[i];
}

// sum [n] += factors [count] rows [count, n], `stride` numbers from row to row.
template <typename C>
SCHMIDT_INLINE_LOOP void add_rows(const C* rows, int64_t stride, const float* factors,
                                  int64_t count, int64_t n, float* sum) {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) add_columns<64>(rows + i, stride, factors, count, sum + i);
  for (; i + 16 <= n; i += 16) add_columns<16>(rows + i, stride, factors, count, sum + i);
  for (; i + 4 <= n; i += 4) add_columns<4>(rows + i, stride, factors, count, sum + i);
  for (; i < n; ++i) add_columns<1>(rows + i, stride, factors, count, sum + i);
}

// c tanh(s / c), with tanh(z) = 1 - 2 / (exp(2 z) + 1).
SCHMIDT_INLINE_LOOP void cap_scores(float* scores, int64_t count, float c) {
  const float twice = 2.0F / c;
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) {
    scores[j] = c * (1.0F - 2.0F / (fast_exp(twice * scores[j]) + 1.0F));
  }
}

template <typename C>
struct Attend {
  static constexpr bool kCodes = std::is_same_v<C, int8_t>;

  SCHMIDT_INLINE_LOOP static void run(const HeadTask<C>* task) {
    const HeadTask<C> t = *task;
    const int64_t end = t.first + t.count;
    for (int64_t j = 0; j < t.count; ++j) t.weights[j] = 0.0F;
    float largest = -std::numeric_limits<float>::infinity();
    for (int64_t at = t.first; at < end;) {
      const CacheMemory::Block& block = t.blocks[at / t.tokens];
      const int64_t offset = at % t.tokens;
      const int64_t count = std::min(end - at, t.tokens - offset);
      float* scores = t.weights + (at - t.first);
      add_rows(static_cast<const C*>(block.keys) + t.numbers + offset, t.tokens, t.q, t.d, count,
               scores);
      if constexpr (kCodes) {
        const float* scales = block.key_scales + t.scales + offset;
        for (int64_t j = 0; j < count; ++j) scores[j] *= scales[j];
      }
      if (t.softcap > 0.0F) cap_scores(scores, count, t.softcap);
      for (int64_t j = 0; j < count; ++j) largest = scores[j] > largest ? scores[j] : largest;
      at += count;
    }
    float total = 0.0F;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < t.count; ++j) {
      const float weight = fast_exp(t.weights[j] - largest);
      t.weights[j] = weight;
      total += weight;
    }
    for (int64_t i = 0; i < t.d; ++i) t.out[i] = 0.0F;
    for (int64_t at = t.first; at < end;) {
      const CacheMemory::Block& block = t.blocks[at / t.tokens];
      const int64_t offset = at % t.tokens;
      const int64_t count = std::min(end - at, t.tokens - offset);
      float* weights = t.weights + (at - t.first);
      if constexpr (kCodes) {
        const float* scales = block.value_scales + t.scales + offset;
        for (int64_t j = 0; j < count; ++j) weights[j] *= scales[j];
      }
      add_rows(static_cast<const C*>(block.values) + t.numbers + offset * t.d, t.d, weights, count,
               t.d, t.out);
      at += count;
    }
    const float inverse = 1.0F / total;
    for (int64_t i = 0; i < t.d; ++i) t.out[i] *= inverse;
  }
};

template <typename T>
struct LoadQuery {
  SCHMIDT_INLINE_LOOP static void run(const T* from, float scale, float* to, int64_t d) {
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) to[i] = widen(from[i]) * scale;
  }
};

template <typename T>
struct StoreOutput {
  SCHMIDT_INLINE_LOOP static void run(const float* from, T* to, int64_t d) {
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) to[i] = narrow<T>(from[i]);
  }
};

template <typename T, typename C>
void attend_one(const CacheMemory& memory, const HeadQuery& query, const T* q, T* out,
                float* numbers) {
  const int64_t seen = query.position + 1, d = memory.d;
  const int64_t count = std::min(seen, query.window.value_or(seen));
  float* const scaled = numbers;
  float* const mixed = scaled + d;
  run_fastest<LoadQuery<T>>(q, query.scale, scaled, d);
  const int64_t head = query.kv_head * memory.tokens;
  const HeadTask<C> task = {scaled,
                            memory.blocks(query.row),
                            query.layer * memory.numbers_of_layer() + head * d,
                            query.layer * memory.scales_of_layer() + head,
                            seen - count,
                            count,
                            memory.tokens,
                            d,
                            query.softcap,
                            mixed + d,
                            mixed};
  run_fastest<Attend<C>>(&task);
  run_fastest<StoreOutput<T>>(static_cast<const float*>(mixed), out, d);
}

template <typename T>
void attend_as(const CacheMemory& memory, const HeadQuery& query, const T* q, T* out,
               float* numbers) {
  with_held_type(memory.dtype, [&]<typename C>(C* /*type*/) {
    attend_one<T, C>(memory, query, q, out, numbers);
  });
}

template <typename T>
void attend_all(const torch::Tensor& q, const CacheMemory& memory, int64_t layer,
                const CachedQueries& queries, double scale, double softcap,
                const torch::Tensor& out) {
  const int64_t heads = q.size(1), d = q.size(2), group = heads / memory.kv_heads;
  const int64_t longest = *std::max_element(queries.positions.begin(), queries.positions.end()) + 1;
  const int64_t grain = std::max<int64_t>(1, kGrain / (longest * d));
  at::parallel_for(0, q.size(0) * heads, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> numbers(longest + 2 * d);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t token = item / heads;
      const HeadQuery query = {.layer = layer,
                               .row = queries.rows[token],
                               .position = queries.positions[token],
                               .kv_head = item % heads / group,
                               .window = queries.window,
                               .scale = static_cast<float>(scale),
                               .softcap = static_cast<float>(softcap)};
      attend_as(memory, query, q.const_data_ptr<T>() + item * d,
                out.mutable_data_ptr<T>() + item * d, numbers.data());
    }
  });
}

void check(const torch::Tensor& q, const std::vector<CacheRow>& rows, int64_t layer,
           const CachedQueries& queries) {
  TORCH_CHECK_VALUE(q.dim() == 3, "[cached_attention] expected q [n, heads, d], got ", q.sizes());
  TORCH_CHECK_VALUE(std::cmp_equal(queries.rows.size(), q.size(0)) &&
                        std::cmp_equal(queries.positions.size(), q.size(0)),
                    "[cached_attention] expected ", q.size(0), " rows and positions, got ",
                    queries.rows.size(), " and ", queries.positions.size());
  TORCH_CHECK_VALUE(queries.window.value_or(1) >= 1,
                    "[cached_attention] expected a window of 1 or more, got ", *queries.window);
  for (int64_t i = 0; i < q.size(0); ++i) {
    const int64_t row = queries.rows[i];
    TORCH_CHECK_VALUE(row >= 0 && std::cmp_less(row, rows.size()),
                      "[cached_attention] expected a row below ", rows.size(), ", got ", row);
    const CacheRow& blocks = rows[row];
    const int64_t tokens = blocks.empty() ? 0 : blocks.front()->values.size(2);
    const int64_t held = tokens * static_cast<int64_t>(blocks.size());
    TORCH_CHECK_VALUE(queries.positions[i] >= 0 && queries.positions[i] < held,
                      "[cached_attention] expected a position below ", held, " in row ", row,
                      ", got ", queries.positions[i]);
    const torch::Tensor& values = blocks.front()->values;
    TORCH_CHECK_VALUE(q.size(2) == values.size(3) && q.size(1) % values.size(1) == 0 &&
                          layer >= 0 && layer < values.size(0),
                      "[cached_attention] expected q [n, heads, d] and a layer that fit blocks "
                      "[layers, kv_heads, tokens, d], got ",
                      q.sizes(), ", layer ", layer, " and ", values.sizes());
  }
}

}  // namespace

torch::Tensor cached_attention_reference(const torch::Tensor& q, const std::vector<CacheRow>& rows,
                                         int64_t layer, const CachedQueries& queries, double scale,
                                         std::optional<double> softcap) {
  check(q, rows, layer, queries);
  std::vector<torch::Tensor> outputs;
  for (int64_t token = 0; token < q.size(0); ++token) {
    const int64_t seen = queries.positions[token] + 1;
    const int64_t count = std::min(seen, queries.window.value_or(seen));
    const KeysAndValues cached =
        gather_from_cache(rows[queries.rows[token]], layer, seen - count, count, torch::kFloat32);
    const int64_t kv_heads = cached.keys.size(1);
    // [kv_heads, heads / kv_heads, d]
    const torch::Tensor grouped = q[token].reshape({kv_heads, -1, q.size(2)}).to(torch::kFloat32);
    torch::Tensor scores = at::matmul(grouped, cached.keys.permute({1, 2, 0})) * scale;
    if (softcap) scores = at::tanh(scores / *softcap) * *softcap;
    const torch::Tensor mixed = at::matmul(at::softmax(scores, -1), cached.values.transpose(0, 1));
    outputs.push_back(mixed.reshape({q.size(1), q.size(2)}).to(q.scalar_type()));
  }
  return outputs.empty() ? at::empty_like(q) : at::stack(outputs);
}

void attend_head(const CacheMemory& memory, const HeadQuery& query, const float* q, float* out,
                 float* numbers) {
  attend_as(memory, query, q, out, numbers);
}
void attend_head(const CacheMemory& memory, const HeadQuery& query, const c10::BFloat16* q,
                 c10::BFloat16* out, float* numbers) {
  attend_as(memory, query, q, out, numbers);
}

torch::Tensor cached_attention(const torch::Tensor& q, const std::vector<CacheRow>& rows,
                               int64_t layer, const CachedQueries& queries, double scale,
                               std::optional<double> softcap) {
  check(q, rows, layer, queries);
  const bool fast =
      q.numel() > 0 && fast_path({&q}) && rows[queries.rows.front()].front()->values.is_cpu();
  if (!fast) return cached_attention_reference(q, rows, layer, queries, scale, softcap);
  const torch::Tensor packed = q.contiguous();
  torch::Tensor out = at::empty_like(packed);
  CacheMemory memory;
  memory.look_up(rows, queries.rows);
  with_fast_type(q.scalar_type(), [&]<typename T>(T*) {
    attend_all<T>(packed, memory, layer, queries, scale, softcap.value_or(0.0), out);
  });
  return out;
}

}  // namespace schmidt::kernels
