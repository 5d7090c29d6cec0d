#include "schmidt/kernels/quantized_gemm_x86.h"

#if defined(__x86_64__)

#include <cstring>

#include <immintrin.h>

#include "schmidt/kernels/narrow_x86.h"

#define SCHMIDT_INLINE [[gnu::always_inline]] static inline
#define SCHMIDT_TARGET [[gnu::target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]]
#if defined(__clang__)
#define SCHMIDT_UNROLL _Pragma("unroll")
#else
#define SCHMIDT_UNROLL _Pragma("GCC unroll 8")
#endif

namespace schmidt::kernels {
namespace {

/// Rows of x that meet a panel at once: 12 sums in integers and 12 in float32 stay in registers.
constexpr int kRows = 6;

SCHMIDT_TARGET SCHMIDT_INLINE void store(float* to, __m512 first, __m512 second) {
  _mm512_storeu_ps(to, first);
  _mm512_storeu_ps(to + 16, second);
}

SCHMIDT_TARGET SCHMIDT_INLINE void store(c10::BFloat16* to, __m512 first, __m512 second) {
  _mm256_storeu_si256((__m256i*)to, narrow(first));
  _mm256_storeu_si256((__m256i*)(to + 16), narrow(second));
}

SCHMIDT_TARGET SCHMIDT_INLINE __m512i four_codes(const int8_t* p) {
  int32_t codes;
  std::memcpy(&codes, p, sizeof(codes));
  return _mm512_set1_epi32(codes);
}

/// kCount rows of x from `row` on.
template <int kCount, typename T>
SCHMIDT_TARGET void block(const Panel& w, const Int8Rows& x, int64_t row, int64_t i, int64_t count,
                          const Outputs<T>& to) {
  __m512 sums[kCount][2];
  SCHMIDT_UNROLL
  for (int r = 0; r < kCount; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  for (int64_t g = 0; g < w.groups; ++g) {
    const __m512 first = _mm512_loadu_ps(w.offsets + g * kPanelRows);
    const __m512 second = _mm512_loadu_ps(w.offsets + g * kPanelRows + 16);
    SCHMIDT_UNROLL
    for (int r = 0; r < kCount; ++r) {
      const __m512 sum = _mm512_set1_ps(x.group_sums[(row + r) * x.groups + g]);
      sums[r][0] = _mm512_fnmadd_ps(sum, first, sums[r][0]);
      sums[r][1] = _mm512_fnmadd_ps(sum, second, sums[r][1]);
    }
  }
  const int64_t blocks = x.columns / kInt8Block;
  const int8_t* codes = x.codes.data() + row * x.columns;
  const float* scales = x.scales.data() + row * blocks * 8;
  const uint8_t* weights = w.codes;
  for (int64_t b = 0; b < w.columns / kInt8Block; ++b) {
    __m512i dots[kCount][2];
    SCHMIDT_UNROLL
    for (int r = 0; r < kCount; ++r) dots[r][0] = dots[r][1] = _mm512_setzero_si512();
    SCHMIDT_UNROLL
    for (int64_t quad = 0; quad < kInt8Block / 4; ++quad) {
      const __m512i first = _mm512_loadu_si512(weights);
      const __m512i second = _mm512_loadu_si512(weights + 64);
      weights += 4 * kPanelRows;
      SCHMIDT_UNROLL
      for (int r = 0; r < kCount; ++r) {
        const __m512i input = four_codes(codes + r * x.columns + 4 * quad);
        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], first, input);
        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], second, input);
      }
    }
    codes += kInt8Block;
    const float* const of_group = w.scales + x.group_of[b] * kPanelRows;
    const __m512 first = _mm512_loadu_ps(of_group), second = _mm512_loadu_ps(of_group + 16);
    SCHMIDT_UNROLL
    for (int r = 0; r < kCount; ++r) {
      const __m512 scale = _mm512_set1_ps(scales[(r * blocks + b) * 8]);
      sums[r][0] =
          _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dots[r][0]), scale), first, sums[r][0]);
      sums[r][1] =
          _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dots[r][1]), scale), second, sums[r][1]);
    }
  }
  SCHMIDT_UNROLL
  for (int r = 0; r < kCount; ++r) {
    T* const y = to.y + (row + r) * to.stride + i;
    if (count == kPanelRows) {
      store(y, sums[r][0], sums[r][1]);
    } else {
      T all[kPanelRows];
      store(all, sums[r][0], sums[r][1]);
      std::memcpy(y, all, static_cast<size_t>(count) * sizeof(T));
    }
  }
}

template <typename T>
void avx512_vnni(const Panel& w, const Int8Rows& x, int64_t i, int64_t count,
                 const Outputs<T>& to) {
  int64_t row = 0;
  for (; row + kRows <= x.rows; row += kRows) block<kRows>(w, x, row, i, count, to);
  switch (x.rows - row) {
    case 5:
      block<5>(w, x, row, i, count, to);
      break;
    case 4:
      block<4>(w, x, row, i, count, to);
      break;
    case 3:
      block<3>(w, x, row, i, count, to);
      break;
    case 2:
      block<2>(w, x, row, i, count, to);
      break;
    case 1:
      block<1>(w, x, row, i, count, to);
      break;
    default:
      break;
  }
}

}  // namespace

Implementations<PanelKernels> x86_panel_implementations() {
  return {{InstructionSet::kAvx512Vnni, {avx512_vnni<float>, avx512_vnni<c10::BFloat16>}}};
}

}  // namespace schmidt::kernels

#else

namespace schmidt::kernels {
Implementations<PanelKernels> x86_panel_implementations() { return {}; }
}  // namespace schmidt::kernels

#endif
