#pragma once

// Squares of 32-bit numbers into their transposes, in registers. x86 only; include it from files
// that check for that.

#include <immintrin.h>

namespace schmidt::kernels {

/// 8 rows of 8 numbers.
[[gnu::target("avx2"), gnu::always_inline]] static inline void transpose(__m256i (&v)[8]) {
  __m256i a[8], b[8];
#pragma GCC unroll 8
  for (int k = 0; k < 8; k += 2) {
    a[k] = _mm256_unpacklo_epi32(v[k], v[k + 1]);
    a[k + 1] = _mm256_unpackhi_epi32(v[k], v[k + 1]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < 8; k += 4) {
    b[k] = _mm256_unpacklo_epi64(a[k], a[k + 2]);
    b[k + 1] = _mm256_unpackhi_epi64(a[k], a[k + 2]);
    b[k + 2] = _mm256_unpacklo_epi64(a[k + 1], a[k + 3]);
    b[k + 3] = _mm256_unpackhi_epi64(a[k + 1], a[k + 3]);
  }
  // b[4 k + m] has in its lane L column 4 L + m of rows 4 k .. 4 k + 3.
#pragma GCC unroll 8
  for (int m = 0; m < 4; ++m) {
    v[m] = _mm256_permute2x128_si256(b[m], b[4 + m], 0x20);
    v[4 + m] = _mm256_permute2x128_si256(b[m], b[4 + m], 0x31);
  }
}

/// 16 rows of 16 numbers.
[[gnu::target("avx512f"), gnu::always_inline]] static inline void transpose(__m512i (&v)[16]) {
  __m512i a[16], b[16];
#pragma GCC unroll 8
  for (int k = 0; k < 16; k += 2) {
    a[k] = _mm512_unpacklo_epi32(v[k], v[k + 1]);
    a[k + 1] = _mm512_unpackhi_epi32(v[k], v[k + 1]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < 16; k += 4) {
    b[k] = _mm512_unpacklo_epi64(a[k], a[k + 2]);
    b[k + 1] = _mm512_unpackhi_epi64(a[k], a[k + 2]);
    b[k + 2] = _mm512_unpacklo_epi64(a[k + 1], a[k + 3]);
    b[k + 3] = _mm512_unpackhi_epi64(a[k + 1], a[k + 3]);
  }
  // b[4 k + m] has in its lane L column 4 L + m of rows 4 k .. 4 k + 3.
#pragma GCC unroll 8
  for (int m = 0; m < 4; ++m) {
    const __m512i even_low = _mm512_shuffle_i32x4(b[m], b[4 + m], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(b[m], b[4 + m], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(b[8 + m], b[12 + m], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(b[8 + m], b[12 + m], 0xdd);
    v[m] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    v[4 + m] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    v[8 + m] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    v[12 + m] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

}  // namespace schmidt::kernels
