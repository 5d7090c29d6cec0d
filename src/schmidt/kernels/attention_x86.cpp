#include "schmidt/kernels/attention_x86.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include <ATen/Parallel.h>

#if defined(__x86_64__)
#if !defined(__clang__)
// GCC 12 takes its own AVX-512 intrinsics for reads of uninitialised memory (its bug
// 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include "schmidt/kernels/word_tiles_x86.h"

namespace schmidt::kernels {
namespace {

using c10::BFloat16;
using tiles::Left;
using tiles::Word;

constexpr int64_t kBlock = 64;  // keys and queries of one tile
/// 2 to the power of less is no normal float. As the first operand of a maximum it leaves NaN as it
/// is.
constexpr float kLeast = -126.0F;
constexpr float kLog2e = 1.44269504F;
constexpr float kNothing = -1e30F;  // a maximum of no scores

int64_t padded(int64_t tokens) { return (tokens + 15) / 16 * 16; }

// Memory aligned to a cache line, filled with zeros.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    memory_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (memory_ == nullptr) throw std::bad_alloc();
    std::memset(memory_.get(), 0, bytes);
  }
  operator T*() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> memory_;
};

template <typename T>
Left rows_of(const T* p, int64_t stride) {
  return {reinterpret_cast<const Word*>(p), stride * static_cast<int64_t>(sizeof(T) / 2) / 2, 1};
}

// One span, one key head.
struct Group {
  TokenSpan span;
  int64_t index;  // of the span
  int64_t kv_head;
};

// Which of a tile's scores count: keys from `key` on, queries from `query` on.
struct Tile {
  int64_t key, keys, query, queries;  // queries: a multiple of 16, beyond the span's end too
  int64_t length, window;

  bool whole() const {
    return key + keys <= query + 1 && query + queries <= length &&
           (window >= length || query + queries - key <= window);
  }
  // The lanes of 16 queries from number 16 v of the tile on that see a key.
  __mmask16 seen(int64_t row, int64_t v) const {
    const auto lanes_below = [&](int64_t end) {
      return (1u << std::clamp<int64_t>(end - query - 16 * v, 0, 16)) - 1;
    };
    const int64_t end = window >= length ? length : std::min(length, key + row + window);
    return static_cast<__mmask16>(lanes_below(end) & ~lanes_below(key + row));
  }
};

// The running softmax of a block of queries, in powers of two.
struct Softmax {
  alignas(64) float largest[kBlock];
  alignas(64) float total[kBlock];
  alignas(64) float shrink[kBlock];  // 2^(largest before - largest now)
};

/// What tiles multiply for each type: words of T along d, and 2^x to what T keeps.
template <typename T>
struct Numbers;

template <>
struct Numbers<BFloat16> {
  using Words = tiles::Pairs;
  static constexpr int64_t kPerWord = 2;
  SCHMIDT_BF16_INLINE __m512 power_of_two(__m512 x) { return tiles::power_of_two(x); }
};

template <>
struct Numbers<float> {
  using Words = tiles::Singles;
  static constexpr int64_t kPerWord = 1;
  SCHMIDT_BF16_INLINE __m512 power_of_two(__m512 x) { return tiles::precise_power_of_two(x); }
};

// scores [keys, kBlock] -> their powers as words [keys / numbers of a word, kBlock].
template <typename T>
SCHMIDT_BF16 void exponentiate(const Tile& t, float scale, const float* scores, Word* weights,
                               Softmax& state) {
  using N = Numbers<T>;
  const bool whole = t.whole();
  const __m512 factor = _mm512_set1_ps(scale * kLog2e);
  for (int64_t v = 0; v < t.queries / 16; ++v) {
    const float* column = scores + 16 * v;
    const __m512 before = _mm512_load_ps(state.largest + 16 * v);
    __m512 largest = _mm512_set1_ps(kNothing);
    for (int64_t row = 0; row < t.keys; ++row) {
      const __mmask16 seen = whole ? 0xffff : t.seen(row, v);
      largest = _mm512_mask_max_ps(largest, seen, largest, _mm512_load_ps(column + row * kBlock));
    }
    // Scores are scaled late: the scale is positive.
    largest = _mm512_max_ps(before, _mm512_mul_ps(largest, factor));
    const __m512 least = _mm512_set1_ps(kLeast);
    const __m512 shrink = N::power_of_two(_mm512_max_ps(_mm512_sub_ps(before, largest), least));
    __m512 total = _mm512_mul_ps(_mm512_load_ps(state.total + 16 * v), shrink);
    for (int64_t row = 0; row < t.keys; row += N::kPerWord) {
      __m512 powers[N::kPerWord] = {};
      for (int64_t i = 0; i < std::min(N::kPerWord, t.keys - row); ++i) {
        const __mmask16 seen = whole ? 0xffff : t.seen(row + i, v);
        const __m512 x =
            _mm512_fmsub_ps(_mm512_load_ps(column + (row + i) * kBlock), factor, largest);
        powers[i] = _mm512_maskz_mov_ps(seen, N::power_of_two(_mm512_max_ps(least, x)));
        total = _mm512_add_ps(total, powers[i]);
      }
      Word* const to = weights + row / N::kPerWord * kBlock + 16 * v;
      if constexpr (N::kPerWord == 1) {
        _mm512_store_ps(to, powers[0]);
      } else {
        _mm512_store_si512(to, tiles::paired(tiles::rounded(powers[0]), tiles::rounded(powers[1])));
      }
    }
    _mm512_store_ps(state.largest + 16 * v, largest);
    _mm512_store_ps(state.total + 16 * v, total);
    _mm512_store_ps(state.shrink + 16 * v, shrink);
  }
}

SCHMIDT_BF16 void scale_row(float* row, float factor, int64_t d) {
  for (int64_t i = 0; i < d; i += 16) {
    _mm512_store_ps(row + i, _mm512_mul_ps(_mm512_load_ps(row + i), _mm512_set1_ps(factor)));
  }
}

template <typename T>
SCHMIDT_BF16 void write_row(const float* row, float factor, int64_t d, T* to) {
  for (int64_t i = 0; i < d; i += 16) {
    const __m512 values = _mm512_mul_ps(_mm512_load_ps(row + i), _mm512_set1_ps(factor));
    if constexpr (std::is_same_v<T, float>) {
      _mm512_storeu_ps(to + i, values);
    } else {
      _mm256_storeu_si256((__m256i*)(to + i), tiles::rounded(values));
    }
  }
}

/// Values of one key head of a span as right operands [tokens / numbers of a word, d].
struct Values {
  const Word* words;
  int64_t row;
};

// A block of queries of one head of a span, and what it writes.
struct QueryBlock {
  int64_t span, head, query;
};

/// Memory that a thread uses for one block after another.
struct BlockMemory {
  Buffer<Word> queries, weights{kBlock * kBlock};
  Buffer<float> scores{kBlock * kBlock}, sums;

  explicit BlockMemory(int64_t d) : queries(d * kBlock), sums(kBlock * d) {}
};

template <typename T>
void forward_block(const AttentionProblem<T>& p, const QueryBlock& block, int64_t kv_head,
                   const Values& values, const BlockMemory& m, T* out, float* log_sum) {
  using N = Numbers<T>;
  const auto [begin, length] = p.spans[static_cast<size_t>(block.span)];
  const int64_t d = p.d, query = block.query, head = block.head;
  const int64_t rows = std::min(kBlock, length - query), columns = padded(rows);
  const T* const keys = p.k + begin * p.k_stride + kv_head * d;
  tiles::pack_transposed(p.q + (begin + query) * p.q_stride + head * d, p.q_stride, rows, kBlock, d,
                         m.queries);
  Softmax state;
  std::fill_n(state.largest, kBlock, kNothing);
  std::fill_n(state.total, kBlock, 0.0F);
  std::fill_n(static_cast<float*>(m.sums), rows * d, 0.0F);
  const int64_t first = std::max<int64_t>(0, query - p.window + 1) / kBlock * kBlock;
  for (int64_t key = first; key < query + rows; key += kBlock) {
    const Tile tile = {key, std::min(kBlock, query + rows - key), query, columns, length, p.window};
    tiles::multiply<typename N::Words>(rows_of(keys + key * p.k_stride, p.k_stride), m.queries,
                                       kBlock, m.scores, kBlock, tile.keys, columns,
                                       d / N::kPerWord, false);
    exponentiate<T>(tile, p.scale, m.scores, m.weights, state);
    for (int64_t row = 0; row < rows; ++row) {
      if (state.shrink[row] != 1.0F) scale_row(m.sums + row * d, state.shrink[row], d);
    }
    tiles::multiply<typename N::Words>(
        {m.weights, 1, kBlock}, values.words + key / N::kPerWord * values.row, values.row, m.sums,
        d, rows, d, (tile.keys + N::kPerWord - 1) / N::kPerWord, true);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t token = begin + query + row;
    write_row(m.sums + row * d, 1.0F / state.total[row], d, out + (token * p.heads + head) * d);
    log_sum[head * p.n + token] = state.largest[row] + std::log2(state.total[row]);
  }
}

// One query head's view of the backward pass.
struct Head {
  const Word *queries, *out_grads;                // [d / 2, wide]
  const Word *paired_queries, *paired_out_grads;  // [wide / 2, d]
  const float *log_sum, *delta;                   // [wide]
};

// From scores and the gradients of weights, both [keys, kBlock]: the weights and the
// gradients of the scores as rows of bfloat16 [keys, kBlock], and the latter as words.
struct Tiles {
  Buffer<float> scores{kBlock * kBlock}, weight_grads{kBlock * kBlock};
  Buffer<BFloat16> weights{kBlock * kBlock}, score_grads{kBlock * kBlock};
  Buffer<Word> paired_score_grads{kBlock / 2 * kBlock};
};

SCHMIDT_BF16 void differentiate(const Tile& t, float scale, const float* log_sum,
                                const float* delta, const Tiles& m) {
  const bool whole = t.whole();
  const __m512 exponent = _mm512_set1_ps(scale * kLog2e), factor = _mm512_set1_ps(scale);
  const __m512 least = _mm512_set1_ps(kLeast);
  for (int64_t v = 0; v < t.queries / 16; ++v) {
    const __m512 sum = _mm512_load_ps(log_sum + 16 * v);
    const __m512 mean = _mm512_load_ps(delta + 16 * v);
    for (int64_t row = 0; row < t.keys; row += 2) {
      __m256i pair[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
      for (int64_t i = 0; i < std::min<int64_t>(2, t.keys - row); ++i) {
        const int64_t at = (row + i) * kBlock + 16 * v;
        const __mmask16 seen = whole ? 0xffff : t.seen(row + i, v);
        const __m512 x = _mm512_fmsub_ps(_mm512_load_ps(m.scores + at), exponent, sum);
        const __m512 weight =
            _mm512_maskz_mov_ps(seen, tiles::power_of_two(_mm512_max_ps(least, x)));
        const __m512 grad = _mm512_mul_ps(_mm512_mul_ps(weight, factor),
                                          _mm512_sub_ps(_mm512_load_ps(m.weight_grads + at), mean));
        pair[i] = tiles::rounded(grad);
        _mm256_store_si256((__m256i*)(m.weights + at), tiles::rounded(weight));
        _mm256_store_si256((__m256i*)(m.score_grads + at), pair[i]);
      }
      _mm512_store_si512(m.paired_score_grads + row / 2 * kBlock + 16 * v,
                         tiles::paired(pair[0], pair[1]));
    }
  }
}

SCHMIDT_BF16 float dot(const BFloat16* a, const BFloat16* b, int64_t d) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < d; i += 16) {
    sum = _mm512_fmadd_ps(tiles::widened(a + i), tiles::widened(b + i), sum);
  }
  return _mm512_reduce_add_ps(sum);
}

// Adds one head's part to q_grad [length, d] (which it fills), k_grad and v_grad.
void backward_head(const AttentionProblem<BFloat16>& p, const Group& group, const Head& head,
                   const Word* paired_keys, const Tiles& m, float* q_grad, float* k_grad,
                   float* v_grad) {
  const auto [begin, length] = group.span;
  const int64_t d = p.d, wide = padded(length);
  const BFloat16* keys = p.k + begin * p.k_stride + group.kv_head * d;
  const BFloat16* values = p.v + begin * p.v_stride + group.kv_head * d;
  for (int64_t key = 0; key < length; key += kBlock) {
    const int64_t rows = std::min(kBlock, length - key);
    for (int64_t query = key; query < length; query += kBlock) {
      if (query - (key + rows - 1) >= p.window) break;
      const int64_t columns = std::min(kBlock, wide - query);
      const Tile tile = {key, rows, query, columns, length, p.window};
      tiles::multiply(rows_of(keys + key * p.k_stride, p.k_stride), head.queries + query, wide,
                      m.scores, kBlock, rows, columns, d / 2, false);
      tiles::multiply(rows_of(values + key * p.v_stride, p.v_stride), head.out_grads + query, wide,
                      m.weight_grads, kBlock, rows, columns, d / 2, false);
      differentiate(tile, p.scale, head.log_sum + query, head.delta + query, m);
      tiles::multiply(rows_of<BFloat16>(m.weights, kBlock), head.paired_out_grads + query / 2 * d,
                      d, v_grad + key * d, d, rows, d, columns / 2, true);
      tiles::multiply(rows_of<BFloat16>(m.score_grads, kBlock), head.paired_queries + query / 2 * d,
                      d, k_grad + key * d, d, rows, d, columns / 2, true);
      tiles::multiply({m.paired_score_grads, 1, kBlock}, paired_keys + key / 2 * d, d,
                      q_grad + query * d, d, std::min(kBlock, length - query), d, (rows + 1) / 2,
                      true);
    }
  }
}

void backward_group(const AttentionProblem<BFloat16>& p, const Group& group,
                    const AttentionGradients& g) {
  const auto [begin, length] = group.span;
  const int64_t d = p.d, wide = padded(length), share = p.heads / p.kv_heads;
  Buffer<Word> paired_keys(wide / 2 * d), queries(d / 2 * wide), out_grads(d / 2 * wide),
      paired_queries(wide / 2 * d), paired_out_grads(wide / 2 * d);
  Buffer<float> q_grad(length * d), k_grad(length * d), v_grad(length * d), log_sum(wide),
      delta(wide);
  const Tiles m;
  tiles::pack_paired(p.k + begin * p.k_stride + group.kv_head * d, p.k_stride, length, wide, d,
                     paired_keys);
  for (int64_t head = group.kv_head * share; head < (group.kv_head + 1) * share; ++head) {
    const BFloat16* q = p.q + begin * p.q_stride + head * d;
    const int64_t offset = (begin * p.heads + head) * d, stride = p.heads * d;
    const BFloat16* dy = g.out_grad + offset;
    tiles::pack_transposed(q, p.q_stride, length, wide, d, queries);
    tiles::pack_transposed(dy, stride, length, wide, d, out_grads);
    tiles::pack_paired(q, p.q_stride, length, wide, d, paired_queries);
    tiles::pack_paired(dy, stride, length, wide, d, paired_out_grads);
    for (int64_t row = 0; row < length; ++row) {
      log_sum[row] = g.log_sum[head * p.n + begin + row];
      delta[row] = dot(g.out + offset + row * stride, dy + row * stride, d);
    }
    std::fill_n(static_cast<float*>(q_grad), length * d, 0.0F);
    backward_head(p, group, {queries, out_grads, paired_queries, paired_out_grads, log_sum, delta},
                  paired_keys, m, q_grad, k_grad, v_grad);
    for (int64_t row = 0; row < length; ++row) {
      write_row(q_grad + row * d, 1.0F, d, g.q_grad + offset + row * stride);
    }
  }
  for (int64_t row = 0; row < length; ++row) {
    const int64_t to = ((begin + row) * p.kv_heads + group.kv_head) * d;
    write_row(k_grad + row * d, 1.0F, d, g.k_grad + to);
    write_row(v_grad + row * d, 1.0F, d, g.v_grad + to);
  }
}

/// Calls make() once on each thread, and body(i, what it made) for each i. These differ in length:
/// a thread takes the next one when it is done with one.
template <typename Make, typename Body>
void in_turn(int64_t count, const Make& make, const Body& body) {
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    const auto memory = make();
    for (int64_t i = next++; i < count; i = next++) body(i, memory);
  });
}

template <typename Body>
void for_each_group(const AttentionProblem<BFloat16>& p, const Body& body) {
  in_turn(
      static_cast<int64_t>(p.spans.size()) * p.kv_heads, [] { return 0; },
      [&](int64_t i, int) {
        body(Group{p.spans[i / p.kv_heads], i / p.kv_heads, i % p.kv_heads});
      });
}

/// The longest first: those that see the most keys.
template <typename T>
std::vector<QueryBlock> query_blocks(const AttentionProblem<T>& p) {
  std::vector<QueryBlock> blocks;
  for (size_t i = 0; i < p.spans.size(); ++i) {
    for (int64_t query = 0; query < p.spans[i].length; query += kBlock) {
      for (int64_t head = 0; head < p.heads; ++head) {
        blocks.push_back({static_cast<int64_t>(i), head, query});
      }
    }
  }
  std::ranges::stable_sort(blocks, std::greater<>(), &QueryBlock::query);
  return blocks;
}

template <typename T, typename ValuesOf>
void forward_blocks(const AttentionProblem<T>& p, const ValuesOf& values_of, T* out,
                    float* log_sum) {
  const std::vector<QueryBlock> blocks = query_blocks(p);
  in_turn(
      static_cast<int64_t>(blocks.size()), [&] { return BlockMemory(p.d); },
      [&](int64_t i, const BlockMemory& memory) {
        const QueryBlock& block = blocks[static_cast<size_t>(i)];
        const int64_t kv_head = block.head / (p.heads / p.kv_heads);
        forward_block(p, block, kv_head, values_of(block.span, kv_head), memory, out, log_sum);
      });
}

void forward_float32(const AttentionProblem<float>& p, float* out, float* log_sum) {
  const auto values_of = [&](int64_t span, int64_t kv_head) {
    const float* const values = p.v + p.spans[span].begin * p.v_stride + kv_head * p.d;
    return Values{reinterpret_cast<const Word*>(values), p.v_stride};
  };
  forward_blocks(p, values_of, out, log_sum);
}

void forward_bfloat16(const AttentionProblem<BFloat16>& p, BFloat16* out, float* log_sum) {
  if (p.spans.empty()) return;
  // Pairs of tokens are put together once for all heads that read them.
  std::vector<int64_t> begins;
  int64_t words = 0;
  for (const TokenSpan& span : p.spans) {
    begins.push_back(words);
    words += padded(span.length) / 2 * p.d * p.kv_heads;
  }
  const Buffer<Word> all(words);
  const auto place = [&](int64_t span, int64_t kv_head) {
    return all + begins[span] + padded(p.spans[span].length) / 2 * p.d * kv_head;
  };
  for_each_group(p, [&](const Group& group) {
    const auto [begin, length] = group.span;
    tiles::pack_paired(p.v + begin * p.v_stride + group.kv_head * p.d, p.v_stride, length,
                       padded(length), p.d, place(group.index, group.kv_head));
  });
  const auto values_of = [&](int64_t span, int64_t kv_head) {
    return Values{place(span, kv_head), p.d};
  };
  forward_blocks(p, values_of, out, log_sum);
}

void backward(const AttentionProblem<BFloat16>& problem, const AttentionGradients& gradients) {
  for_each_group(problem, [&](const Group& g) { backward_group(problem, g, gradients); });
}

}  // namespace

Implementations<AttentionKernels> attention_implementations() {
  return {{InstructionSet::kAvx512Bf16, {forward_float32, forward_bfloat16, backward}}};
}

}  // namespace schmidt::kernels

#else

namespace schmidt::kernels {
Implementations<AttentionKernels> attention_implementations() { return {}; }
}  // namespace schmidt::kernels

#endif
