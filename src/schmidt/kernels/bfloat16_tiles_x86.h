#pragma once

// Small matrix products of bfloat16 in float32, for kernels that keep their operands in
// cache. x86 with AVX-512 BF16 only; include it from files that check for that.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <c10/util/BFloat16.h>
#include <immintrin.h>

#define SCHMIDT_BF16 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]]
#define SCHMIDT_BF16_INLINE SCHMIDT_BF16 [[gnu::always_inline]] static inline

namespace schmidt::kernels::tiles {

/// Two bfloat16 that are neighbours along the summed dimension, the first one low.
using Word = uint32_t;

/// A [rows, pairs]: the word of row r and pair p is at data + r row + p pair.
struct Left {
  const Word* data;
  int64_t row, pair;
};

SCHMIDT_BF16_INLINE __m512bh broadcast(const Word* word) {
  int32_t value;
  std::memcpy(&value, word, sizeof(value));
  return (__m512bh)_mm512_set1_epi32(value);
}

/// c [R, 16 V] = (add ? c : 0) + A B. b [pairs, 16 V] of words, b_row and c_row from
/// row to row.
template <int R, int V>
SCHMIDT_BF16_INLINE void tile(Left a, const Word* b, int64_t b_row, float* c, int64_t c_row,
                              int64_t pairs, bool add) {
  __m512 sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      sum[r][v] = add ? _mm512_loadu_ps(c + r * c_row + 16 * v) : _mm512_setzero_ps();
    }
  }
  for (int64_t p = 0; p < pairs; ++p) {
    __m512bh right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      right[v] = (__m512bh)_mm512_loadu_si512(b + p * b_row + 16 * v);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512bh left = broadcast(a.data + r * a.row + p * a.pair);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + r * c_row + 16 * v, sum[r][v]);
  }
}

/// 6 x 4 sums, 4 words of b and one of a fill 29 of the 32 registers.
template <int V>
SCHMIDT_BF16 inline void all_rows(Left a, const Word* b, int64_t b_row, float* c, int64_t c_row,
                                  int64_t rows, int64_t pairs, bool add) {
  while (rows >= 6) {
    tile<6, V>(a, b, b_row, c, c_row, pairs, add);
    a.data += 6 * a.row;
    c += 6 * c_row;
    rows -= 6;
  }
  switch (rows) {
    case 5:
      return tile<5, V>(a, b, b_row, c, c_row, pairs, add);
    case 4:
      return tile<4, V>(a, b, b_row, c, c_row, pairs, add);
    case 3:
      return tile<3, V>(a, b, b_row, c, c_row, pairs, add);
    case 2:
      return tile<2, V>(a, b, b_row, c, c_row, pairs, add);
    case 1:
      return tile<1, V>(a, b, b_row, c, c_row, pairs, add);
    default:
      return;
  }
}

/// c [rows, columns] = (add ? c : 0) + A B; columns a multiple of 16.
SCHMIDT_BF16 inline void multiply(Left a, const Word* b, int64_t b_row, float* c, int64_t c_row,
                                  int64_t rows, int64_t columns, int64_t pairs, bool add) {
  for (int64_t done = 0; done < columns; done += 64) {
    const Word* right = b + done;
    float* out = c + done;
    switch (std::min<int64_t>(64, columns - done) / 16) {
      case 4:
        all_rows<4>(a, right, b_row, out, c_row, rows, pairs, add);
        break;
      case 3:
        all_rows<3>(a, right, b_row, out, c_row, rows, pairs, add);
        break;
      case 2:
        all_rows<2>(a, right, b_row, out, c_row, rows, pairs, add);
        break;
      default:
        all_rows<1>(a, right, b_row, out, c_row, rows, pairs, add);
    }
  }
}

/// x [rows, d], `stride` from row to row -> words [d / 2, padded] with pairs along d;
/// zeros behind the rows.
inline void pack_transposed(const c10::BFloat16* x, int64_t stride, int64_t rows, int64_t padded,
                            int64_t d, Word* to) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t p = 0; p < d / 2; ++p) {
      std::memcpy(to + p * padded + row, x + row * stride + 2 * p, sizeof(Word));
    }
  }
  for (int64_t p = 0; p < d / 2; ++p) std::fill(to + p * padded + rows, to + (p + 1) * padded, 0);
}

SCHMIDT_BF16_INLINE __m512i low_halves(__m256i values) { return _mm512_cvtepu16_epi32(values); }

/// The words whose low halves are `low` and whose high halves are `high`.
SCHMIDT_BF16_INLINE __m512i paired(__m256i low, __m256i high) {
  return _mm512_or_si512(low_halves(low), _mm512_slli_epi32(low_halves(high), 16));
}

/// x [rows, d] -> words [padded / 2, d] with pairs along the rows; zeros behind them.
/// d a multiple of 16, padded even.
SCHMIDT_BF16 inline void pack_paired(const c10::BFloat16* x, int64_t stride, int64_t rows,
                                     int64_t padded, int64_t d, Word* to) {
  for (int64_t row = 0; row < padded; row += 2, to += d) {
    const c10::BFloat16* first = x + row * stride;
    for (int64_t i = 0; i < d; i += 16) {
      __m256i low = _mm256_setzero_si256(), high = low;
      if (row < rows) low = _mm256_loadu_si256((const __m256i*)(first + i));
      if (row + 1 < rows) high = _mm256_loadu_si256((const __m256i*)(first + stride + i));
      _mm512_storeu_si512(to + i, paired(low, high));
    }
  }
}

SCHMIDT_BF16_INLINE __m256i rounded(__m512 values) { return (__m256i)_mm512_cvtneps_pbh(values); }

SCHMIDT_BF16_INLINE __m512 widened(const c10::BFloat16* p) {
  const __m256i values = _mm256_loadu_si256((const __m256i*)p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(low_halves(values), 16));
}

/// 2^x for x in [-126, 127], to 3e-6 of its value, which is far below what bfloat16
/// keeps: 2^n 2^r with |r| at most 1/2, 2^r by the polynomial of least relative error.
SCHMIDT_BF16_INLINE __m512 power_of_two(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, 0);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(0.009570102F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.05591786F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24024744F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.6931218F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.9999993F));
  return _mm512_scalef_ps(p, n);
}

}  // namespace schmidt::kernels::tiles
