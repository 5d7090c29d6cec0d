#include "schmidt/kernels/bfloat16_gemm.h"

#include <algorithm>
#include <vector>

#include "schmidt/kernels/processor.h"

#if defined(__x86_64__)
#include "schmidt/kernels/amx_tiles_x86.h"
#include "schmidt/kernels/bfloat16_tiles_x86.h"
#include "schmidt/kernels/transpose_x86.h"
#endif

namespace schmidt::kernels {

#if defined(__x86_64__)
namespace {

using c10::BFloat16;
using tiles::Word;
using Problem = GemvProblem<BFloat16>;

constexpr int64_t kPanel = 64;  // rows of W

// Rows of x whose sums stay in the nearest cache, by vectors and by tiles.
constexpr int64_t kTogether = 48, kTogetherByTiles = 2 * amx::kSide;

SCHMIDT_BF16_INLINE __mmask16 first(int64_t count) {
  return static_cast<__mmask16>((1U << std::clamp<int64_t>(count, 0, 16)) - 1);
}

int64_t pairs_of(const Problem& p) { return (p.n + 1) / 2; }

/// `count` rows of W from row i on to words [pairs, kPanel] with pairs along n, zeros up to a whole
/// sixteen of rows and behind the pairs of n, of which there are at most 15 fewer.
SCHMIDT_BF16 void pack(const Problem& p, int64_t i, int64_t count, int64_t pairs, Word* to) {
  for (int64_t o = 0; o < count; o += 16) {
    for (int64_t j = 0; j < pairs; j += 16) {
      const __mmask32 here = ~__mmask32{0} >> std::clamp<int64_t>(2 * j + 32 - p.n, 0, 31);
      __m512i rows[16];
#pragma GCC unroll 16
      for (int64_t r = 0; r < 16; ++r) {
        const BFloat16* const from = p.w + (i + o + r) * p.w_stride + 2 * j;
        // The processor does not foresee as many streams: the same place of the next panel.
        _mm_prefetch((const char*)(from + kPanel * p.w_stride), _MM_HINT_T1);
        rows[r] = _mm512_maskz_loadu_epi16(o + r < count ? here : __mmask32{0}, from);
      }
      transpose(rows);
      const int64_t words = std::min<int64_t>(16, pairs - j);
      for (int64_t k = 0; k < words; ++k) _mm512_store_si512(to + (j + k) * kPanel + o, rows[k]);
    }
  }
}

/// sums [rows, kPanel] and bias to y from output i on, `count` of them.
SCHMIDT_BF16 void finish(const Problem& p, const float* sums, int64_t row, int64_t rows, int64_t i,
                         int64_t count) {
  for (int64_t r = 0; r < rows; ++r, sums += kPanel) {
    BFloat16* const y = p.y + (row + r) * p.y_stride + i;
    for (int64_t o = 0; o < count; o += 16) {
      __m512 v = _mm512_load_ps(sums + o);
      const __mmask16 here = first(count - o);
      if (p.bias != nullptr) {
        const __m256i bias = _mm256_maskz_loadu_epi16(here, p.bias + i + o);
        v = _mm512_add_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32(tiles::low_halves(bias), 16)));
      }
      _mm256_mask_storeu_epi16(y + o, here, tiles::rounded(v));
    }
  }
}

/// Words of this thread's memory, kept from one product to the next: it is as large as a panel.
Word* panel_memory(int64_t words) {
  thread_local std::vector<amx::Line> memory;
  const auto needed = static_cast<size_t>(words / amx::kSide);
  if (memory.size() < needed) memory.resize(needed);
  return memory.data()->words;
}

void avx512_bf16(const Problem& p, int64_t begin, int64_t end) {
  const int64_t pairs = pairs_of(p);
  Word* const panel = panel_memory((pairs + kTogether) * kPanel);
  auto* const sums = reinterpret_cast<float*>(panel + pairs * kPanel);
  for (int64_t i = begin; i < end; i += kPanel) {
    const int64_t count = std::min(kPanel, end - i);
    pack(p, i, count, pairs, panel);
    for (int64_t row = 0; row < p.rows; row += kTogether) {
      const int64_t rows = std::min(kTogether, p.rows - row);
      const auto* const x = reinterpret_cast<const Word*>(p.x + row * p.x_stride);
      tiles::multiply({x, p.x_stride / 2, 1}, panel, kPanel, sums, kPanel, rows,
                      (count + 15) / 16 * 16, pairs, /*add=*/false);
      finish(p, sums, row, rows, i, count);
    }
  }
}

SCHMIDT_AMX void amx_bf16(const Problem& p, int64_t begin, int64_t end) {
  thread_local std::vector<amx::Line> copies;
  const amx::LeftTiles x(reinterpret_cast<const Word*>(p.x), p.x_stride / 2, p.rows, pairs_of(p),
                         copies);
  const int64_t pairs = x.blocks() * amx::kSide;
  Word* const panel = panel_memory((pairs + kTogetherByTiles) * kPanel);
  auto* const sums = reinterpret_cast<float*>(panel + pairs * kPanel);
  _tile_loadconfig(&amx::kWholeTiles);
  for (int64_t i = begin; i < end; i += kPanel) {
    const int64_t count = std::min(kPanel, end - i);
    pack(p, i, count, pairs, panel);
    for (int64_t row = 0; row < p.rows; row += kTogetherByTiles) {
      const int64_t rows = std::min(kTogetherByTiles, p.rows - row);
      amx::multiply(x, row, rows, panel, kPanel, sums, kPanel, (count + 15) / 16 * 16);
      finish(p, sums, row, rows, i, count);
    }
  }
  _tile_release();
}

}  // namespace

const Implementations<Bfloat16Gemm>& bfloat16_gemm_implementations() {
  static const Implementations<Bfloat16Gemm> all = {{InstructionSet::kAvx512Bf16, avx512_bf16},
                                                    {InstructionSet::kAmxBf16, amx_bf16}};
  return all;
}
#else
const Implementations<Bfloat16Gemm>& bfloat16_gemm_implementations() {
  static const Implementations<Bfloat16Gemm> none;
  return none;
}
#endif

namespace {

/// Most rows for which vectors were measured faster than oneDNN without AMX (Zen 4), and products
/// that oneDNN's start costs where it has AMX and these may not.
constexpr int64_t kMostRows = 512, kMostWorkBesideAmx = 4 << 20;

bool beats_the_library(const GemvProblem<c10::BFloat16>& p) {
  static const bool tiles = supported(InstructionSet::kAmxBf16);
  static const bool library_has_tiles = has_tiles_of_bfloat16();
  if (tiles) return true;
  return p.rows <= kMostRows && (!library_has_tiles || p.rows * p.m * p.n <= kMostWorkBesideAmx);
}

}  // namespace

Bfloat16Gemm bfloat16_gemm(const GemvProblem<c10::BFloat16>& p) {
  static const Bfloat16Gemm* const kernel = fastest(bfloat16_gemm_implementations());
  return kernel != nullptr && p.n >= 1 && beats_the_library(p) ? *kernel : nullptr;
}

}  // namespace schmidt::kernels
