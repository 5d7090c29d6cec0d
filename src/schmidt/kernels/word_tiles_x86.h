#pragma once

// Small matrix products of words, two bfloat16 or a float32 each, in float32, for kernels that keep
// their operands in cache. x86 with AVX-512 BF16 only; include it from files that check for that.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <c10/util/BFloat16.h>
#include <immintrin.h>

#define SCHMIDT_BF16 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]]
#define SCHMIDT_BF16_INLINE SCHMIDT_BF16 [[gnu::always_inline]] static inline

namespace schmidt::kernels::tiles {

/// A float32, or two bfloat16 that are neighbours along the summed dimension, the first one low.
using Word = uint32_t;

/// What words hold that are multiplied.
struct Pairs {
  SCHMIDT_BF16_INLINE __m512 sum(__m512 sum, __m512i left, __m512i right) {
    return _mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
  }
};
struct Singles {
  SCHMIDT_BF16_INLINE __m512 sum(__m512 sum, __m512i left, __m512i right) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(left), _mm512_castsi512_ps(right), sum);
  }
};

/// A [rows, words]: the word of row r and place p is at data + r row + p word.
struct Left {
  const Word* data;
  int64_t row, word;
};

SCHMIDT_BF16_INLINE __m512i broadcast(const Word* word) {
  int32_t value;
  std::memcpy(&value, word, sizeof(value));
  return _mm512_set1_epi32(value);
}

/// c [R, 16 V] = (add ? c : 0) + A B. b [words, 16 V], b_row and c_row from row to row.
template <typename Words, int R, int V>
SCHMIDT_BF16_INLINE void tile(Left a, const Word* b, int64_t b_row, float* c, int64_t c_row,
                              int64_t words, bool add) {
  __m512 sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      sum[r][v] = add ? _mm512_loadu_ps(c + r * c_row + 16 * v) : _mm512_setzero_ps();
    }
  }
  for (int64_t p = 0; p < words; ++p) {
    __m512i right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) right[v] = _mm512_loadu_si512(b + p * b_row + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i left = broadcast(a.data + r * a.row + p * a.word);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = Words::sum(sum[r][v], left, right[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + r * c_row + 16 * v, sum[r][v]);
  }
}

/// 6 x 4 sums, 4 words of b and one of a fill 29 of the 32 registers.
template <typename Words, int V>
SCHMIDT_BF16 inline void all_rows(Left a, const Word* b, int64_t b_row, float* c, int64_t c_row,
                                  int64_t rows, int64_t words, bool add) {
  while (rows >= 6) {
    tile<Words, 6, V>(a, b, b_row, c, c_row, words, add);
    a.data += 6 * a.row;
    c += 6 * c_row;
    rows -= 6;
  }
  switch (rows) {
    case 5:
      return tile<Words, 5, V>(a, b, b_row, c, c_row, words, add);
    case 4:
      return tile<Words, 4, V>(a, b, b_row, c, c_row, words, add);
    case 3:
      return tile<Words, 3, V>(a, b, b_row, c, c_row, words, add);
    case 2:
      return tile<Words, 2, V>(a, b, b_row, c, c_row, words, add);
    case 1:
      return tile<Words, 1, V>(a, b, b_row, c, c_row, words, add);
    default:
      return;
  }
}

/// c [rows, columns] = (add ? c : 0) + A B; columns a multiple of 16.
template <typename Words = Pairs>
SCHMIDT_BF16 inline void multiply(Left a, const Word* b, int64_t b_row, float* c, int64_t c_row,
                                  int64_t rows, int64_t columns, int64_t words, bool add) {
  for (int64_t done = 0; done < columns; done += 64) {
    const Word* right = b + done;
    float* out = c + done;
    switch (std::min<int64_t>(64, columns - done) / 16) {
      case 4:
        all_rows<Words, 4>(a, right, b_row, out, c_row, rows, words, add);
        break;
      case 3:
        all_rows<Words, 3>(a, right, b_row, out, c_row, rows, words, add);
        break;
      case 2:
        all_rows<Words, 2>(a, right, b_row, out, c_row, rows, words, add);
        break;
      default:
        all_rows<Words, 1>(a, right, b_row, out, c_row, rows, words, add);
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

/// x [rows, d] -> words [d, padded]; zeros behind the rows.
inline void pack_transposed(const float* x, int64_t stride, int64_t rows, int64_t padded, int64_t d,
                            Word* to) {
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(to + i * padded + row, x + row * stride + i, sizeof(Word));
    }
    std::fill(to + i * padded + rows, to + (i + 1) * padded, 0);
  }
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

/// 2^x for x in [-126, 127]: 2^n 2^r with |r| at most 1/2, 2^r by a polynomial whose coefficients
/// are given from the highest on.
template <typename... Lower>
SCHMIDT_BF16_INLINE __m512 power_of_two_by(__m512 x, float highest, Lower... lower) {
  const __m512 n = _mm512_roundscale_ps(x, 0);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(highest);
  ((p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(lower))), ...);
  return _mm512_scalef_ps(p, n);
}

/// To 3e-6 of its value, which is far below what bfloat16 keeps: the polynomial of least relative
/// error.
SCHMIDT_BF16_INLINE __m512 power_of_two(__m512 x) {
  return power_of_two_by(x, 0.009570102F, 0.05591786F, 0.24024744F, 0.6931218F, 0.9999993F);
}

/// The same to 1e-7.
SCHMIDT_BF16_INLINE __m512 precise_power_of_two(__m512 x) {
  return power_of_two_by(x, 0.00015345812F, 0.0013399931F, 0.009618489F, 0.055503286F, 0.24022646F,
                         0.6931472F, 1.0F);
}

}  // namespace schmidt::kernels::tiles
