#include "schmidt/kernels/gemv_x86.h"

#if defined(__x86_64__)

#include <algorithm>
#include <cstring>

#include <immintrin.h>

#include "schmidt/kernels/prefetch.h"

#define SCHMIDT_INLINE [[gnu::always_inline]] static inline
#if defined(__clang__)
#define SCHMIDT_UNROLL _Pragma("unroll")
#else
#define SCHMIDT_UNROLL _Pragma("GCC unroll 8")
// GCC 12 takes its own _mm512_reduce_add_ps for a read of uninitialised memory
// (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace schmidt::kernels {
namespace {

#define SCHMIDT_TARGET [[gnu::target("avx2,fma")]]
namespace avx2 {

struct Float32 {
  using Element = float;
  using Sum = __m256;
  using Raw = __m256;
  using Operand = __m256;
  static constexpr int64_t kLanes = 8;
  static constexpr int kRows = 2;  // 2 rows x 4 outputs in 16 registers

  SCHMIDT_TARGET SCHMIDT_INLINE Sum zero() { return _mm256_setzero_ps(); }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const float* p) { return _mm256_loadu_ps(p); }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const float* p, int64_t count) {
    alignas(32) static constexpr int32_t kMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i*)(kMasks + 8 - count)));
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Operand operand(Raw v) { return v; }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum add_product(Sum sum, Operand a, Operand b) {
    return _mm256_fmadd_ps(a, b, sum);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE void total(const Sum (&s)[1], float (&out)[1]) {
    float lanes[8];
    _mm256_storeu_ps(lanes, s[0]);
    out[0] = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
             ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  }
  SCHMIDT_TARGET SCHMIDT_INLINE void total(const Sum (&s)[4], float (&out)[4]) {
    // hadd of hadds leaves the four totals side by side in either half.
    const Sum v = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
  }
};

struct BFloat16 {
  // A bfloat16 is the upper half of a float32. The elements at odd positions are
  // floats as they lie, up to noise in the lower half that is masked away; those
  // at even positions are a shift away. A dot product may sum both in any order.
  struct Pair {
    __m256 even, odd;
  };
  using Element = c10::BFloat16;
  using Sum = __m256;
  using Raw = __m256i;
  using Operand = Pair;
  static constexpr int64_t kLanes = 16;
  static constexpr int kRows = 2;  // 2 rows x 4 outputs in 16 registers

  SCHMIDT_TARGET SCHMIDT_INLINE Sum zero() { return _mm256_setzero_ps(); }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const c10::BFloat16* p) {
    return _mm256_loadu_si256((const __m256i*)p);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const c10::BFloat16* p, int64_t count) {
    alignas(32) uint16_t buffer[16] = {};
    std::memcpy(buffer, p, count * sizeof(uint16_t));
    return _mm256_load_si256((const __m256i*)buffer);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Operand operand(Raw v) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(v, upper))};
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum add_product(Sum sum, Operand a, Operand b) {
    return _mm256_fmadd_ps(a.odd, b.odd, _mm256_fmadd_ps(a.even, b.even, sum));
  }
  template <int kOut>
  SCHMIDT_TARGET SCHMIDT_INLINE void total(const Sum (&s)[kOut], float (&out)[kOut]) {
    Float32::total(s, out);
  }
};

#include "schmidt/kernels/gemv_kernel.inc"
}  // namespace avx2
#undef SCHMIDT_TARGET

#define SCHMIDT_TARGET [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]]
namespace avx512 {

struct Float32 {
  using Element = float;
  using Sum = __m512;
  using Raw = __m512;
  using Operand = __m512;
  static constexpr int64_t kLanes = 16;
  static constexpr int kRows = 4;  // 4 rows x 4 outputs in 32 registers

  SCHMIDT_TARGET SCHMIDT_INLINE Sum zero() { return _mm512_setzero_ps(); }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const float* p) { return _mm512_loadu_ps(p); }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const float* p, int64_t count) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Operand operand(Raw v) { return v; }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum add_product(Sum sum, Operand a, Operand b) {
    return _mm512_fmadd_ps(a, b, sum);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE void total(const Sum (&s)[1], float (&out)[1]) {
    out[0] = _mm512_reduce_add_ps(s[0]);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE void total(const Sum (&s)[4], float (&out)[4]) {
    const Sum ab = _mm512_add_ps(_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1]));
    const Sum cd = _mm512_add_ps(_mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3]));
    const Sum v = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
};

struct BFloat16 {
  struct Pair {
    __m512 even, odd;
  };
  using Element = c10::BFloat16;
  using Sum = __m512;
  using Raw = __m512i;
  using Operand = Pair;
  static constexpr int64_t kLanes = 32;
  static constexpr int kRows = 4;  // 4 rows x 4 outputs in 32 registers

  SCHMIDT_TARGET SCHMIDT_INLINE Sum zero() { return _mm512_setzero_ps(); }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const c10::BFloat16* p) { return _mm512_loadu_si512(p); }
  SCHMIDT_TARGET SCHMIDT_INLINE Raw load(const c10::BFloat16* p, int64_t count) {
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ull << count) - 1), p);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Operand operand(Raw v) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(v, upper))};
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum add_product(Sum sum, Operand a, Operand b) {
    return _mm512_fmadd_ps(a.odd, b.odd, _mm512_fmadd_ps(a.even, b.even, sum));
  }
  template <int kOut>
  SCHMIDT_TARGET SCHMIDT_INLINE void total(const Sum (&s)[kOut], float (&out)[kOut]) {
    Float32::total(s, out);
  }
};

#include "schmidt/kernels/gemv_kernel.inc"
}  // namespace avx512
#undef SCHMIDT_TARGET

#define SCHMIDT_TARGET [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]]
namespace avx512_bf16 {

// Both halves of a register are multiplied at once.
struct BFloat16 : avx512::BFloat16 {
  using Operand = __m512bh;

  SCHMIDT_TARGET SCHMIDT_INLINE Operand operand(Raw v) { return (__m512bh)v; }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum add_product(Sum sum, Operand a, Operand b) {
    return _mm512_dpbf16_ps(sum, a, b);
  }
};

#include "schmidt/kernels/gemv_kernel.inc"
}  // namespace avx512_bf16
#undef SCHMIDT_TARGET

}  // namespace

Implementations<GemvKernels> x86_gemv_implementations() {
  return {
      {InstructionSet::kAvx2, {avx2::kernel<avx2::Float32>, avx2::kernel<avx2::BFloat16>}},
      {InstructionSet::kAvx512,
       {avx512::kernel<avx512::Float32>, avx512::kernel<avx512::BFloat16>}},
      {InstructionSet::kAvx512Bf16,
       {avx512::kernel<avx512::Float32>, avx512_bf16::kernel<avx512_bf16::BFloat16>}},
  };
}

}  // namespace schmidt::kernels

#else

namespace schmidt::kernels {
Implementations<GemvKernels> x86_gemv_implementations() { return {}; }
}  // namespace schmidt::kernels

#endif
