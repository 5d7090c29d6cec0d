#pragma once

// float32 to bfloat16, to the nearest, ties to even, for CPUs whose vectors have no instruction for
// it. The quiet NaN that arithmetic gives stays NaN. x86 only; include it from files that check for
// that.

#include <immintrin.h>

namespace schmidt::kernels {

[[gnu::target("avx2"), gnu::always_inline]] inline __m128i narrow(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

[[gnu::target("avx512f"), gnu::always_inline]] inline __m256i narrow(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

}  // namespace schmidt::kernels
