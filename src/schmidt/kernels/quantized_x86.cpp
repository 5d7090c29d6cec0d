#include "schmidt/kernels/quantized_x86.h"

#if defined(__x86_64__)

#include <algorithm>
#include <array>
#include <cstring>

#include <c10/util/Half.h>
#include <immintrin.h>

#include "schmidt/kernels/narrow_x86.h"
#include "schmidt/kernels/prefetch.h"
#include "schmidt/kernels/transpose_x86.h"

#define SCHMIDT_INLINE [[gnu::always_inline]] static inline
#if defined(__clang__)
#define SCHMIDT_UNROLL _Pragma("unroll")
#else
#define SCHMIDT_UNROLL _Pragma("GCC unroll 8")
#endif

namespace schmidt::kernels {
namespace {

/// W's codes as bytes. Kernels read nothing from `end` on.
struct Bytes {
  const uint8_t* begin;
  const uint8_t* end;
  int64_t stride;  // of a row
  int64_t bits;
  int64_t n;  // columns

  explicit Bytes(const QuantizedWeight& w)
      : begin(reinterpret_cast<const uint8_t*>(w.words)),
        end(begin + w.m * w.row_words() * 4),
        stride(w.row_words() * 4),
        bits(w.format.bits),
        n(w.n) {}
  const uint8_t* row(int64_t i) const { return begin + i * stride; }
};

/// Those that belong to the codes that are asked for beside row i.
void ask_for_scales(const QuantizedWeight& w, const Bytes& bytes, int64_t i) {
  const int64_t groups_ahead = (i + kPrefetchBytes / bytes.stride) * w.groups();
  _mm_prefetch(static_cast<const char*>(w.scales) +
                   groups_ahead * static_cast<int64_t>(c10::elementSize(w.scale_type)),
               _MM_HINT_T1);
  if (w.zeros != nullptr) _mm_prefetch((const char*)(w.zeros + groups_ahead), _MM_HINT_T1);
}

std::vector<int32_t> groups_of_blocks(const QuantizedWeight& w) {
  std::vector<int32_t> group_of((w.n + 63) / 64 * 2);
  for (size_t b = 0; b < group_of.size(); ++b) {
    group_of[b] = static_cast<int32_t>(
        std::min(static_cast<int64_t>(b) * kInt8Block / w.format.group, w.groups() - 1));
  }
  return group_of;
}

/// How codes of some width are taken from bytes. Eight of `b` bits are `b` bytes whatever b is.
struct Pattern {
  // By shuffles: the two bytes that hold a code go into a lane of 16 bits, a factor moves the code
  // to its top, a shift to its bottom. For 16 codes from 2 b bytes on, eight in each half.
  alignas(16) uint8_t first[16], second[16];
  alignas(16) uint16_t first_factor[8], second_factor[8];
  // By permutations of bytes: the b bytes of eight codes go into a lane of 64 bits, from which
  // eight bits are taken at each shift.
  alignas(64) uint8_t spread[64];
  alignas(8) uint8_t shifts[8];
};

constexpr Pattern pattern(int bits) {
  Pattern p{};
  for (int code = 0; code < 16; ++code) {
    const int bit = code * bits, byte = bit / 8, shift = bit % 8, lane = code % 8;
    uint8_t* const bytes = code < 8 ? p.first : p.second;
    bytes[2 * lane] = static_cast<uint8_t>(byte);
    bytes[2 * lane + 1] = static_cast<uint8_t>(byte + 1 < 2 * bits ? byte + 1 : 0x80);  // 0x80: 0
    (code < 8 ? p.first_factor : p.second_factor)[lane] =
        static_cast<uint16_t>(1 << (16 - bits - shift));
  }
  for (int k = 0; k < 64; ++k) {
    p.spread[k] = static_cast<uint8_t>(k / 8 * bits + (k % 8 < bits ? k % 8 : 0));
  }
  for (int k = 0; k < 8; ++k) p.shifts[k] = static_cast<uint8_t>(k * bits);
  return p;
}

constexpr std::array<Pattern, 9> kPatterns = {Pattern{},  Pattern{},  pattern(2),
                                              pattern(3), pattern(4), pattern(5),
                                              pattern(6), Pattern{},  pattern(8)};

#define SCHMIDT_TARGET [[gnu::target("avx2,fma")]]
namespace avx2 {

/// read_scales() by vectors.
SCHMIDT_TARGET void widen(const QuantizedWeight& w, int64_t i, float* scales, float* zeros) {
  const int64_t groups = w.groups();
  int64_t g = 0;
  switch (w.scale_type) {
    case c10::ScalarType::BFloat16: {
      const auto* const from = static_cast<const uint16_t*>(w.scales) + i * groups;
      for (; g + 8 <= groups; g += 8) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)(from + g)));
        _mm256_storeu_ps(scales + g, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
      }
      for (; g < groups; ++g) {
        const uint32_t bits = static_cast<uint32_t>(from[g]) << 16;
        std::memcpy(scales + g, &bits, sizeof(bits));
      }
      break;
    }
    case c10::ScalarType::Half: {
      // Exponent and mantissa moved to their places in a float32, times 2^(127 - 15): right for
      // all finite numbers.
      const auto* const from = static_cast<const uint16_t*>(w.scales) + i * groups;
      const __m256 magic = _mm256_set1_ps(0x1p112F);
      for (; g < groups; g += 8) {
        alignas(16) uint16_t last[8] = {};
        const uint16_t* here = from + g;
        if (g + 8 > groups) {
          std::memcpy(last, here, static_cast<size_t>(groups - g) * sizeof(uint16_t));
          here = last;
        }
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)here));
        const __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(wide, 15), 31);
        const __m256i rest =
            _mm256_slli_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x7fff)), 13);
        const __m256 value = _mm256_mul_ps(_mm256_castsi256_ps(rest), magic);
        _mm256_storeu_ps(scales + g, _mm256_or_ps(value, _mm256_castsi256_ps(sign)));
      }
      break;
    }
    default:
      std::copy_n(static_cast<const float*>(w.scales) + i * groups, groups, scales);
      break;
  }
  if (w.zeros == nullptr) {
    std::fill_n(zeros, groups, static_cast<float>(w.format.middle()));
    return;
  }
  const uint8_t* const from = w.zeros + i * groups;
  g = 0;
  for (; g + 8 <= groups; g += 8) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(from + g)));
    _mm256_storeu_ps(zeros + g, _mm256_cvtepi32_ps(wide));
  }
  for (; g < groups; ++g) zeros[g] = static_cast<float>(from[g]);
}

SCHMIDT_TARGET SCHMIDT_INLINE uint32_t largest(__m256i v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

SCHMIDT_TARGET SCHMIDT_INLINE int total(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

SCHMIDT_TARGET void round_row(const float* x, int64_t n, int8_t* codes, float* scales,
                              float* sums) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  for (int64_t j = 0; j < n; j += kInt8Block, scales += 8, ++sums) {
    alignas(32) float last[kInt8Block] = {};
    const float* from = x + j;
    if (n - j < kInt8Block) {
      std::memcpy(last, from, static_cast<size_t>(n - j) * sizeof(float));
      from = last;
    }
    __m256 v[4];
    __m256i most = _mm256_setzero_si256();
    SCHMIDT_UNROLL
    for (int k = 0; k < 4; ++k) {
      v[k] = _mm256_loadu_ps(from + 8 * k);
      // As integers magnitudes have their own order, infinity and NaN above all others.
      most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(v[k]), magnitude));
    }
    const uint32_t bits = largest(most);
    float scale;
    std::memcpy(&scale, &bits, sizeof(scale));
    const uint32_t nan = 0x7fc00000;
    if (bits >= 0x7f800000) {
      std::memcpy(&scale, &nan, sizeof(scale));
    } else {
      scale = std::max(scale / 127.0F, 0x1p-120F);
    }
    const __m256 inverse = _mm256_set1_ps(1.0F / scale);
    __m256i q[4];
    SCHMIDT_UNROLL
    for (int k = 0; k < 4; ++k) q[k] = _mm256_cvtps_epi32(_mm256_mul_ps(v[k], inverse));
    const __m256i mixed =
        _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    const __m256i in_order =
        _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i*)(codes + j), in_order);
    _mm256_storeu_ps(scales, _mm256_set1_ps(scale));
    const __m256i all =
        _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
    *sums = scale * static_cast<float>(total(all));
  }
}

/// 32 codes at a time.
struct Vector {
  static constexpr int64_t kColumns = 32, kLanes = 8;
  static constexpr int kRows = 2, kOut = 2;
  using Codes = __m256i;
  using Sum = __m256;

  struct Unpacker {
    __m256i first, second, first_factor, second_factor, flip;
    __m128i drop;
    int64_t half;  // bytes of 16 codes

    SCHMIDT_TARGET explicit Unpacker(int bits) {
      const Pattern& p = kPatterns[bits];
      first = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)p.first));
      second = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)p.second));
      first_factor = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)p.first_factor));
      second_factor = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)p.second_factor));
      flip = _mm256_set1_epi8(static_cast<char>(bits == 8 ? 0x80 : 0));
      drop = _mm_cvtsi32_si128(16 - bits);
      half = 2 * bits;
    }
    float taken() const { return half == 16 ? 128.0F : 0.0F; }
  };

  SCHMIDT_TARGET SCHMIDT_INLINE Codes codes(const Unpacker& u, const uint8_t* from,
                                            const uint8_t* end) {
    alignas(32) uint8_t last[48];
    if (end - from < u.half + 16) {
      std::memset(last, 0, sizeof(last));
      std::memcpy(last, from, static_cast<size_t>(std::min<int64_t>(end - from, 2 * u.half)));
      from = last;
    }
    const __m256i bytes =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)from)),
                                _mm_loadu_si128((const __m128i*)(from + u.half)), 1);
    const __m256i a = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, u.first), u.first_factor);
    const __m256i b = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, u.second), u.second_factor);
    return _mm256_packus_epi16(_mm256_srl_epi16(a, u.drop), _mm256_srl_epi16(b, u.drop));
  }

  SCHMIDT_TARGET SCHMIDT_INLINE Sum all(float value) { return _mm256_set1_ps(value); }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum zero() { return _mm256_setzero_ps(); }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum load(const float* p) { return _mm256_loadu_ps(p); }
  template <int k>
  SCHMIDT_TARGET SCHMIDT_INLINE Sum quarter(Codes c) {
    const __m128i half = _mm256_extracti128_si256(c, k / 2);
    const __m128i here = k % 2 == 0 ? half : _mm_unpackhi_epi64(half, half);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(here));
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum number(Sum code, Sum zero_point, Sum scale) {
    return _mm256_mul_ps(scale, _mm256_sub_ps(code, zero_point));
  }
  SCHMIDT_TARGET SCHMIDT_INLINE void store(uint8_t* to, Codes c) {
    _mm256_storeu_si256((__m256i*)to, c);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE void store(float* to, Sum v) { _mm256_storeu_ps(to, v); }
  SCHMIDT_TARGET SCHMIDT_INLINE void store(c10::BFloat16* to, Sum v) {
    _mm_storeu_si128((__m128i*)to, narrow(v));
  }

  /// Codes below 128 as they are, those of 8 bits less 128. As maddubs() takes it, a sign goes over
  /// to the other factor: sums of two products stay within 16 bits.
  struct Factor {
    __m256i codes, magnitudes;
  };
  /// Scales s of row i, and s (z - taken), zeros up to `padded` groups.
  SCHMIDT_TARGET SCHMIDT_INLINE void side(const QuantizedWeight& w, int64_t i, float taken,
                                          int64_t padded, float* scales, float* offsets) {
    widen(w, i, scales, offsets);
    for (int64_t g = 0; g < w.groups(); ++g) offsets[g] = scales[g] * (offsets[g] - taken);
    for (int64_t g = w.groups(); g < padded; ++g) offsets[g] = 0.0F;
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Factor factor(const Unpacker& u, Codes c) {
    const __m256i codes = _mm256_xor_si256(c, u.flip);
    return {codes, _mm256_abs_epi8(codes)};
  }
  SCHMIDT_TARGET SCHMIDT_INLINE __m256i load_int8(const int8_t* p) {
    return _mm256_loadu_si256((const __m256i*)p);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum scales(const float* of, const int32_t* group) {
    return _mm256_broadcast_ss(of + group[0]);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum product(const Factor& w, __m256i x, Sum scale) {
    const __m256i pairs = _mm256_maddubs_epi16(w.magnitudes, _mm256_sign_epi8(x, w.codes));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))), scale);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum add_product(Sum sum, Sum a, Sum b) {
    return _mm256_fmadd_ps(a, b, sum);
  }
  SCHMIDT_TARGET SCHMIDT_INLINE Sum subtract_product(Sum sum, Sum a, Sum b) {
    return _mm256_fnmadd_ps(a, b, sum);
  }
  template <int kOut>
  SCHMIDT_TARGET SCHMIDT_INLINE void total(const Sum (&s)[kOut], float (&out)[kOut]) {
    SCHMIDT_UNROLL
    for (int o = 0; o < kOut; ++o) {
      __m128 v = _mm_add_ps(_mm256_castps256_ps128(s[o]), _mm256_extractf128_ps(s[o], 1));
      v = _mm_add_ps(v, _mm_movehl_ps(v, v));
      out[o] = _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps(v, v, 1)));
    }
  }
};

#define SCHMIDT_INT8
#include "schmidt/kernels/quantized_kernel.inc"
#undef SCHMIDT_INT8
}  // namespace avx2
#undef SCHMIDT_TARGET

using avx2::round_row;
using avx2::widen;

#define SCHMIDT_TARGET [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]]
namespace avx512 {
#include "schmidt/kernels/quantized_avx512.inc"
struct Vector : Floats, Shuffles {};
#include "schmidt/kernels/quantized_kernel.inc"
}  // namespace avx512
#undef SCHMIDT_TARGET

#define SCHMIDT_INT8
#define SCHMIDT_TARGET [[gnu::target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]]
namespace avx512_vnni {
#include "schmidt/kernels/quantized_avx512.inc"
struct Vector : Floats, Shuffles, Products<Shuffles> {};
#include "schmidt/kernels/quantized_kernel.inc"
}  // namespace avx512_vnni
#undef SCHMIDT_TARGET

#define SCHMIDT_TARGET \
  [[gnu::target("avx512vbmi,avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]]
#define SCHMIDT_VBMI
namespace avx512_vbmi {
#include "schmidt/kernels/quantized_avx512.inc"
struct Vector : Floats, Permutations {};
#include "schmidt/kernels/quantized_vbmi.inc"
#undef SCHMIDT_INT8  // those were its products, in place of quantized_kernel.inc's
#include "schmidt/kernels/quantized_kernel.inc"
}  // namespace avx512_vbmi
#undef SCHMIDT_VBMI
#undef SCHMIDT_TARGET

}  // namespace

Implementations<DecodeKernels> x86_decode_implementations() {
  using c10::BFloat16;
  return {
      {InstructionSet::kAvx2, {avx2::decode<float>, avx2::decode<BFloat16>, avx2::panel_codes}},
      {InstructionSet::kAvx512,
       {avx512::decode<float>, avx512::decode<BFloat16>, avx512::panel_codes}},
      {InstructionSet::kAvx512Vbmi,
       {avx512_vbmi::decode<float>, avx512_vbmi::decode<BFloat16>, avx512_vbmi::panel_codes}},
  };
}

Implementations<Int8Kernels> x86_int8_implementations() {
  using c10::BFloat16;
  return {
      {InstructionSet::kAvx2, {round_row, avx2::int8_product<float>, avx2::int8_product<BFloat16>}},
      {InstructionSet::kAvx512Vnni,
       {round_row, avx512_vnni::int8_product<float>, avx512_vnni::int8_product<BFloat16>}},
      {InstructionSet::kAvx512Vbmi,
       {round_row, avx512_vbmi::int8_product<float>, avx512_vbmi::int8_product<BFloat16>}},
  };
}

}  // namespace schmidt::kernels

#else

namespace schmidt::kernels {
Implementations<DecodeKernels> x86_decode_implementations() { return {}; }
Implementations<Int8Kernels> x86_int8_implementations() { return {}; }
}  // namespace schmidt::kernels

#endif
