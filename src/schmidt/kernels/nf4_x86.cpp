#include "schmidt/kernels/nf4_x86.h"

#if defined(__x86_64__)

#include <algorithm>
#include <iterator>
#include <utility>

#include <immintrin.h>

#include "schmidt/kernels/narrow_x86.h"

namespace schmidt::kernels {
namespace {

using c10::BFloat16;

/// The codes of eight bytes, in their order.
[[gnu::target("avx2"), gnu::always_inline]] inline __m128i codes_of(__m128i bytes) {
  const __m128i half = _mm_set1_epi8(15);
  return _mm_unpacklo_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), half),
                           _mm_and_si128(bytes, half));
}

[[gnu::target("avx2"), gnu::always_inline]] inline void store(float* to, __m256 v) {
  _mm256_storeu_ps(to, v);
}
[[gnu::target("avx2"), gnu::always_inline]] inline void store(BFloat16* to, __m256 v) {
  _mm_storeu_si128((__m128i*)to, narrow(v));
}
[[gnu::target("avx512f"), gnu::always_inline]] inline void store(float* to, __m512 v) {
  _mm512_storeu_ps(to, v);
}
[[gnu::target("avx512f"), gnu::always_inline]] inline void store(BFloat16* to, __m512 v) {
  _mm256_storeu_si256((__m256i*)to, narrow(v));
}

/// Writes as many of `count` numbers of a block as whole vectors hold, and says how many.
template <typename T>
using WholeVectors = int64_t (*)(const uint8_t* from, float scale, int64_t count, T* to);

template <typename T>
[[gnu::target("avx2")]] int64_t avx2(const uint8_t* from, float scale, int64_t count, T* to) {
  const __m256 first = _mm256_loadu_ps(quant::kNf4Levels.data());
  const __m256 second = _mm256_loadu_ps(quant::kNf4Levels.data() + 8);
  const __m256 s = _mm256_set1_ps(scale);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i codes = _mm256_cvtepu8_epi32(codes_of(_mm_loadu_si32(from + i / 2)));
    const __m256 in_second = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28));  // bit 3 as a sign
    const __m256 level = _mm256_blendv_ps(_mm256_permutevar8x32_ps(first, codes),
                                          _mm256_permutevar8x32_ps(second, codes), in_second);
    store(to + i, _mm256_mul_ps(level, s));
  }
  return i;
}

template <typename T>
[[gnu::target("avx2,avx512f")]] int64_t avx512(const uint8_t* from, float scale, int64_t count,
                                               T* to) {
  const __m512 levels = _mm512_loadu_ps(quant::kNf4Levels.data());
  const __m512 s = _mm512_set1_ps(scale);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m512i codes = _mm512_cvtepu8_epi32(codes_of(_mm_loadu_si64(from + i / 2)));
    store(to + i, _mm512_mul_ps(_mm512_permutexvar_ps(codes, levels), s));
  }
  return i;
}

template <typename T, WholeVectors<T> whole_vectors>
void decode(const Nf4Weight& w, int64_t begin, int64_t end, T* to) {
  for (int64_t i = begin; i < end;) {
    const int64_t b = i / w.block, last = std::min(end, (b + 1) * w.block);
    if (i % 2 == 0) {
      const int64_t done = whole_vectors(w.codes + i / 2, w.scales.at(b), last - i, to + i - begin);
      i += done;
    }
    // What is left of the block, or an odd number before a byte begins.
    const int64_t stop = i % 2 == 0 ? last : std::min(i + 1, last);
    for (; i < stop; ++i) {
      float number;
      quant::decode_nf4(w.codes, w.scales, w.block, i, i + 1, &number);
      to[i - begin] = static_cast<T>(number);
    }
  }
}

// A run's bytes hold the code of an even place in their high half and that of the odd place behind
// it in the low one, so that neither has to be moved to where its lane is.

template <int kRows>
[[gnu::target("avx2,fma")]] void dot_avx2_rows(const Nf4Weight& w, const float* x, int64_t begin,
                                               int64_t end, float* y) {
  const __m256 first = _mm256_loadu_ps(quant::kNf4Levels.data());
  const __m256 second = _mm256_loadu_ps(quant::kNf4Levels.data() + 8);
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t* codes = w.codes + i * w.n / 2;
    __m256 sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = _mm256_setzero_ps();
    for (int64_t j = 0; j < w.n; j += w.block) {
      __m256 of_block[kRows];
      for (int r = 0; r < kRows; ++r) of_block[r] = _mm256_setzero_ps();
      for (int64_t k = j; k < j + w.block; k += 16, codes += 8) {
        const __m256i odd = _mm256_cvtepu8_epi32(_mm_loadu_si64(codes));
        const __m256i even = _mm256_srli_epi32(odd, 4);
        for (const auto& [place, code] : {std::pair{k, even}, std::pair{k + 8, odd}}) {
          const __m256 level = _mm256_blendv_ps(
              _mm256_permutevar8x32_ps(first, code), _mm256_permutevar8x32_ps(second, code),
              _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)));  // bit 3 as a sign
          for (int r = 0; r < kRows; ++r) {
            of_block[r] = _mm256_fmadd_ps(level, _mm256_loadu_ps(x + r * w.n + place), of_block[r]);
          }
        }
      }
      const __m256 scale = _mm256_set1_ps(w.scales.at((i * w.n + j) / w.block));
      for (int r = 0; r < kRows; ++r) sums[r] = _mm256_fmadd_ps(scale, of_block[r], sums[r]);
    }
    for (int r = 0; r < kRows; ++r) {
      __m128 s = _mm_add_ps(_mm256_castps256_ps128(sums[r]), _mm256_extractf128_ps(sums[r], 1));
      s = _mm_add_ps(s, _mm_movehl_ps(s, s));
      y[r * w.m + i] = _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
    }
  }
}

template <int kRows>
[[gnu::target("avx2,avx512f,fma")]] void dot_avx512_rows(const Nf4Weight& w, const float* x,
                                                         int64_t begin, int64_t end, float* y) {
  const __m512 levels = _mm512_loadu_ps(quant::kNf4Levels.data());
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t* codes = w.codes + i * w.n / 2;
    __m512 sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
    for (int64_t j = 0; j < w.n; j += w.block) {
      __m512 of_block[kRows];
      for (int r = 0; r < kRows; ++r) of_block[r] = _mm512_setzero_ps();
      for (int64_t k = j; k < j + w.block; k += 32, codes += 16) {
        const __m512i both = _mm512_cvtepu8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));  // the low four bits count
        const __m512 even = _mm512_permutexvar_ps(_mm512_srli_epi32(both, 4), levels);
        const __m512 odd = _mm512_permutexvar_ps(both, levels);
        for (int r = 0; r < kRows; ++r) {
          of_block[r] = _mm512_fmadd_ps(even, _mm512_loadu_ps(x + r * w.n + k), of_block[r]);
          of_block[r] = _mm512_fmadd_ps(odd, _mm512_loadu_ps(x + r * w.n + k + 16), of_block[r]);
        }
      }
      const __m512 scale = _mm512_set1_ps(w.scales.at((i * w.n + j) / w.block));
      for (int r = 0; r < kRows; ++r) sums[r] = _mm512_fmadd_ps(scale, of_block[r], sums[r]);
    }
    for (int r = 0; r < kRows; ++r) y[r * w.m + i] = _mm512_reduce_add_ps(sums[r]);
  }
}

using DotOfRows = void (*)(const Nf4Weight& w, const float* x, int64_t begin, int64_t end,
                           float* y);

/// That of one row, of two, and so on.
template <DotOfRows... of_rows>
void dot(const Nf4Weight& w, const float* x, int64_t rows, int64_t begin, int64_t end, float* y) {
  static constexpr DotOfRows kByRows[] = {of_rows...};
  static_assert(std::size(kByRows) == kMostDotRows);
  kByRows[rows - 1](w, x, begin, end, y);
}

constexpr Nf4Dot kDotAvx2 =
    dot<dot_avx2_rows<1>, dot_avx2_rows<2>, dot_avx2_rows<3>, dot_avx2_rows<4>>;
constexpr Nf4Dot kDotAvx512 =
    dot<dot_avx512_rows<1>, dot_avx512_rows<2>, dot_avx512_rows<3>, dot_avx512_rows<4>>;

}  // namespace

Implementations<Nf4Kernels> x86_nf4_implementations() {
  return {{InstructionSet::kAvx2,
           {decode<float, avx2<float>>, decode<BFloat16, avx2<BFloat16>>, kDotAvx2, 8}},
          {InstructionSet::kAvx512,
           {decode<float, avx512<float>>, decode<BFloat16, avx512<BFloat16>>, kDotAvx512, 16}}};
}

}  // namespace schmidt::kernels

#else

namespace schmidt::kernels {
Implementations<Nf4Kernels> x86_nf4_implementations() { return {}; }
}  // namespace schmidt::kernels

#endif
