#include "schmidt/kernels/interleave_x86.h"

#if defined(__x86_64__)

#include <algorithm>
#include <bit>
#include <cstring>

#include <immintrin.h>

#define SCHMIDT_TARGET [[gnu::target("avx512vbmi2,avx512f,avx512bw,avx512vl,avx2,popcnt")]]
#define SCHMIDT_INLINE SCHMIDT_TARGET [[gnu::always_inline]] static inline

namespace schmidt::kernels {
namespace {

/// 32 bits from bit i on.
uint32_t bits_at(const uint32_t* bits, int64_t i) {
  const uint64_t both = bits[i / 32] | (uint64_t{bits[i / 32 + 1]} << 32);
  return static_cast<uint32_t>(both >> (i % 32));
}

/// The lowest `count` bits, at most 32.
uint32_t lowest(int64_t count) { return static_cast<uint32_t>((uint64_t{1} << count) - 1); }

struct BFloat16 {
  using Element = c10::BFloat16;
  static constexpr int64_t kLanes = 32;

  /// Where `mask` is set the next numbers of `from`, elsewhere zero; reads no others.
  SCHMIDT_INLINE __m512i spread(uint32_t mask, const Element* from) {
    return _mm512_maskz_expand_epi16(mask,
                                     _mm512_maskz_loadu_epi16(lowest(std::popcount(mask)), from));
  }
  SCHMIDT_INLINE void store(Element* to, uint32_t mask, __m512i v) {
    _mm512_mask_storeu_epi16(to, mask, v);
  }
};

struct Float32 {
  using Element = float;
  static constexpr int64_t kLanes = 16;

  SCHMIDT_INLINE __m512i spread(uint32_t mask, const Element* from) {
    const auto here = static_cast<__mmask16>(lowest(std::popcount(mask)));
    return _mm512_maskz_expand_epi32(static_cast<__mmask16>(mask),
                                     _mm512_maskz_loadu_epi32(here, from));
  }
  SCHMIDT_INLINE void store(Element* to, uint32_t mask, __m512i v) {
    _mm512_mask_storeu_epi32(to, static_cast<__mmask16>(mask), v);
  }
};

template <typename Vector, typename T = typename Vector::Element>
SCHMIDT_TARGET void merge(const ColumnOrder& order, const ColumnSpan& span,
                          const RowsToMerge<T>& rows) {
  for (int64_t row = 0; row < rows.rows; ++row) {
    const T* first = rows.first + row * rows.first_stride + span.first;
    const T* second = rows.second + row * rows.second_stride + span.second;
    T* const to = rows.result + row * rows.result_stride;
    for (int64_t column = span.begin; column < span.end; column += Vector::kLanes) {
      const uint32_t here = lowest(std::min(Vector::kLanes, span.end - column));
      const uint32_t of_first = bits_at(order.bits(), column) & here, of_second = here & ~of_first;
      Vector::store(
          to + column, here,
          _mm512_or_si512(Vector::spread(of_first, first), Vector::spread(of_second, second)));
      first += std::popcount(of_first);
      second += std::popcount(of_second);
    }
  }
}

}  // namespace

Implementations<MergeKernels> x86_merge_implementations() {
  return {{InstructionSet::kAvx512Vbmi, {merge<Float32>, merge<BFloat16>}}};
}

}  // namespace schmidt::kernels

#else

namespace schmidt::kernels {
Implementations<MergeKernels> x86_merge_implementations() { return {}; }
}  // namespace schmidt::kernels

#endif
