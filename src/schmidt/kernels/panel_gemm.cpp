#include "schmidt/kernels/panel_gemm.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include "schmidt/kernels/processor.h"

#if defined(__x86_64__)
#include "schmidt/kernels/amx_tiles_x86.h"
#include "schmidt/kernels/transpose_x86.h"
#include "schmidt/kernels/word_tiles_x86.h"
#endif

namespace schmidt::kernels {

#if defined(__x86_64__)
namespace {

using c10::BFloat16;
using tiles::Word;
using Problem = GemvProblem<BFloat16>;

template <typename T>
using WordsOf = std::conditional_t<std::is_same_v<T, float>, tiles::Singles, tiles::Pairs>;

template <typename T>
constexpr int64_t kHalves = sizeof(T) / sizeof(BFloat16);  // of a word, in a number

constexpr int64_t kPanel = kPanelRowsOfW;

// Rows of x whose sums stay in the nearest cache, by vectors and by tiles.
constexpr int64_t kTogether = 48, kTogetherByTiles = 2 * amx::kSide;

// Rows of x up to which tiles take W as it lies in memory, and how many times as many W has.
constexpr int64_t kMostTurned = 32, kTurnedShare = 4;

SCHMIDT_BF16_INLINE __mmask16 first(int64_t count) {
  return static_cast<__mmask16>((1U << std::clamp<int64_t>(count, 0, 16)) - 1);
}

template <typename T>
int64_t words_of(const GemvProblem<T>& p) {
  return (p.n * kHalves<T> + 1) / 2;
}

/// Rows of n halves of words, `stride` from row to row.
struct Rows {
  const uint16_t* data;
  int64_t stride, n;
};

/// `count` rows to words [words, to_row], zeros up to a whole sixteen of rows and behind n, where
/// at most 15 words are more than that.
SCHMIDT_BF16 void pack(const Rows& from, int64_t count, int64_t words, Word* to, int64_t to_row) {
  for (int64_t o = 0; o < count; o += 16) {
    for (int64_t j = 0; j < words; j += 16) {
      const __mmask32 here = ~__mmask32{0} >> std::clamp<int64_t>(2 * j + 32 - from.n, 0, 31);
      __m512i rows[16];
#pragma GCC unroll 16
      for (int64_t r = 0; r < 16; ++r) {
        const uint16_t* const row = from.data + (o + r) * from.stride + 2 * j;
        // The processor does not foresee as many streams: the same place of the next panel.
        _mm_prefetch((const char*)(row + kPanel * from.stride), _MM_HINT_T1);
        rows[r] = _mm512_maskz_loadu_epi16(o + r < count ? here : __mmask32{0}, row);
      }
      transpose(rows);
      const int64_t there = std::min<int64_t>(16, words - j);
      for (int64_t k = 0; k < there; ++k) _mm512_store_si512(to + (j + k) * to_row + o, rows[k]);
    }
  }
}

template <typename T>
Rows rows_of(const T* data, int64_t stride, int64_t n) {
  return {reinterpret_cast<const uint16_t*>(data), stride * kHalves<T>, n * kHalves<T>};
}

template <typename T>
Rows weights_from(const GemvProblem<T>& p, int64_t i) {
  return rows_of(p.w + i * p.w_stride, p.w_stride, p.n);
}

/// Sums of 16 outputs from output i on, with their bias, as 16 numbers.
SCHMIDT_BF16_INLINE void store_outputs(const GemvProblem<float>& p, __m512 sums, int64_t row,
                                       int64_t i, __mmask16 here) {
  if (p.bias != nullptr) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(here, p.bias + i));
  _mm512_mask_storeu_ps(p.y + row * p.y_stride + i, here, sums);
}
SCHMIDT_BF16_INLINE void store_outputs(const Problem& p, __m512 sums, int64_t row, int64_t i,
                                       __mmask16 here) {
  if (p.bias != nullptr) {
    const __m256i bias = _mm256_maskz_loadu_epi16(here, p.bias + i);
    sums = _mm512_add_ps(sums, _mm512_castsi512_ps(_mm512_slli_epi32(tiles::low_halves(bias), 16)));
  }
  _mm256_mask_storeu_epi16(p.y + row * p.y_stride + i, here, tiles::rounded(sums));
}

/// sums [rows, kPanel] and bias to y from output i on, `count` of them.
template <typename T>
SCHMIDT_BF16 void finish(const GemvProblem<T>& p, const float* sums, int64_t row, int64_t rows,
                         int64_t i, int64_t count) {
  for (int64_t r = 0; r < rows; ++r, sums += kPanel) {
    for (int64_t o = 0; o < count; o += 16) {
      store_outputs(p, _mm512_load_ps(sums + o), row + r, i + o, first(count - o));
    }
  }
}

/// The same of sums [count, columns] whose columns are the rows of x.
SCHMIDT_BF16 void finish_turned(const Problem& p, const float* sums, int64_t columns, int64_t i,
                                int64_t count) {
  for (int64_t o = 0; o < count; o += 16) {
    for (int64_t row = 0; row < p.rows; row += 16) {
      __m512i turned[16];
#pragma GCC unroll 16
      for (int64_t r = 0; r < 16; ++r) {
        turned[r] = _mm512_load_si512(sums + (o + r) * columns + row);
      }
      transpose(turned);
      const int64_t rows = std::min<int64_t>(16, p.rows - row);
      for (int64_t r = 0; r < rows; ++r) {
        store_outputs(p, _mm512_castsi512_ps(turned[r]), row + r, i + o, first(count - o));
      }
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

/// `count` outputs from output i on of every row, whose panel is given; sums [kTogether, kPanel].
template <typename T>
void multiply_panel(const GemvProblem<T>& p, const Word* panel, int64_t i, int64_t count,
                    float* sums) {
  for (int64_t row = 0; row < p.rows; row += kTogether) {
    const int64_t rows = std::min(kTogether, p.rows - row);
    const auto* const x = reinterpret_cast<const Word*>(p.x + row * p.x_stride);
    tiles::multiply<WordsOf<T>>({x, p.x_stride * kHalves<T> / 2, 1}, panel, kPanel, sums, kPanel,
                                rows, (count + 15) / 16 * 16, words_of(p), /*add=*/false);
    finish(p, sums, row, rows, i, count);
  }
}

template <typename T>
void by_vectors(const GemvProblem<T>& p, int64_t begin, int64_t end) {
  const int64_t words = words_of(p);
  Word* const panel = panel_memory((words + kTogether) * kPanel);
  auto* const sums = reinterpret_cast<float*>(panel + words * kPanel);
  for (int64_t i = begin; i < end; i += kPanel) {
    const int64_t count = std::min(kPanel, end - i);
    pack(weights_from(p, i), count, words, panel, kPanel);
    multiply_panel(p, panel, i, count, sums);
  }
}

/// With W as the left operand, which tiles read as it lies in memory: fewer rows of x than of W are
/// cheaper to put in order.
SCHMIDT_AMX void amx_bf16_turned(const Problem& p, int64_t begin, int64_t end) {
  thread_local std::vector<amx::Line> copies;
  const amx::LeftTiles w(reinterpret_cast<const Word*>(p.w + begin * p.w_stride), p.w_stride / 2,
                         end - begin, words_of(p), copies);
  const int64_t pairs = w.blocks() * amx::kSide;
  const int64_t columns = (p.rows + amx::kSide - 1) / amx::kSide * amx::kSide;
  Word* const x = panel_memory((pairs + 2 * amx::kSide) * columns);
  auto* const sums = reinterpret_cast<float*>(x + pairs * columns);
  pack(rows_of(p.x, p.x_stride, p.n), p.rows, pairs, x, columns);
  _tile_loadconfig(&amx::kWholeTiles);
  for (int64_t i = begin; i < end; i += 2 * amx::kSide) {
    const int64_t count = std::min(2 * amx::kSide, end - i);
    amx::multiply</*kAhead=*/true>(w, i - begin, count, x, columns, sums, columns, columns);
    finish_turned(p, sums, columns, i, count);
  }
  _tile_release();
}

SCHMIDT_AMX void amx_bf16(const Problem& p, int64_t begin, int64_t end) {
  const bool few = p.rows <= kMostTurned && kTurnedShare * p.rows <= end - begin;
  if (few && p.n % 2 == 0 && p.w_stride % 2 == 0) {
    return amx_bf16_turned(p, begin, end);
  }
  thread_local std::vector<amx::Line> copies;
  const amx::LeftTiles x(reinterpret_cast<const Word*>(p.x), p.x_stride / 2, p.rows, words_of(p),
                         copies);
  const int64_t pairs = x.blocks() * amx::kSide;
  Word* const panel = panel_memory((pairs + kTogetherByTiles) * kPanel);
  auto* const sums = reinterpret_cast<float*>(panel + pairs * kPanel);
  _tile_loadconfig(&amx::kWholeTiles);
  for (int64_t i = begin; i < end; i += kPanel) {
    const int64_t count = std::min(kPanel, end - i);
    pack(weights_from(p, i), count, pairs, panel, kPanel);
    for (int64_t row = 0; row < p.rows; row += kTogetherByTiles) {
      const int64_t rows = std::min(kTogetherByTiles, p.rows - row);
      amx::multiply(x, row, rows, panel, kPanel, sums, kPanel, (count + 15) / 16 * 16);
      finish(p, sums, row, rows, i, count);
    }
  }
  _tile_release();
}

template <typename T>
torch::Tensor packed(const torch::Tensor& w) {
  const GemvProblem<T> p{
      .w = w.const_data_ptr<T>(), .m = w.size(0), .n = w.size(1), .w_stride = w.stride(0)};
  const int64_t words = words_of(p), panels = (p.m + kPanel - 1) / kPanel;
  const torch::Tensor all = at::zeros({panels, words, kPanel}, torch::kInt32);
  auto* const to = reinterpret_cast<Word*>(all.mutable_data_ptr<int32_t>());
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t i = panel * kPanel;
    pack(weights_from(p, i), std::min(kPanel, p.m - i), words, to + panel * words * kPanel, kPanel);
  }
  return all;
}

}  // namespace

torch::Tensor packed_panels(const torch::Tensor& w) {
  if (!supported(InstructionSet::kAvx512Bf16) || w.numel() == 0) return {};
  return w.scalar_type() == torch::kFloat32 ? packed<float>(w) : packed<BFloat16>(w);
}

template <typename T>
void multiply_panels(const torch::Tensor& panels, const GemvProblem<T>& p, int64_t begin,
                     int64_t end) {
  const auto* const all = reinterpret_cast<const Word*>(panels.const_data_ptr<int32_t>());
  auto* const sums = reinterpret_cast<float*>(panel_memory(kTogether * kPanel));
  for (int64_t i = begin; i < end; i += kPanel) {
    multiply_panel(p, all + i * words_of(p), i, std::min(kPanel, end - i), sums);
  }
}

template <>
const Implementations<PanelGemm<float>>& panel_gemm_implementations<float>() {
  static const Implementations<PanelGemm<float>> all = {
      {InstructionSet::kAvx512Bf16, by_vectors<float>}};
  return all;
}

template <>
const Implementations<PanelGemm<BFloat16>>& panel_gemm_implementations<BFloat16>() {
  static const Implementations<PanelGemm<BFloat16>> all = {
      {InstructionSet::kAvx512Bf16, by_vectors<BFloat16>}, {InstructionSet::kAmxBf16, amx_bf16}};
  return all;
}
#else
torch::Tensor packed_panels(const torch::Tensor& /*w*/) { return {}; }

template <typename T>
void multiply_panels(const torch::Tensor& /*panels*/, const GemvProblem<T>& /*problem*/,
                     int64_t /*begin*/, int64_t /*end*/) {
  TORCH_INTERNAL_ASSERT(false, "there are no panels here");
}

template <typename T>
const Implementations<PanelGemm<T>>& panel_gemm_implementations() {
  static const Implementations<PanelGemm<T>> none;
  return none;
}

template const Implementations<PanelGemm<float>>& panel_gemm_implementations<float>();
template const Implementations<PanelGemm<c10::BFloat16>>&
panel_gemm_implementations<c10::BFloat16>();
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

/// Most numbers in a row of W whose panel a second cache of a megabyte holds, and fewest rows of W
/// for each thread: outputs alone are shared among them.
constexpr int64_t kLongestRow = 2048, kRowsPerThread = 32;

bool beats_the_library(const GemvProblem<float>& p) {
  return mkl_leaves_vectors_unused() && p.n <= kLongestRow &&
         p.m >= kRowsPerThread * at::get_num_threads();
}

}  // namespace

template <typename T>
PanelGemm<T> panel_gemm(const GemvProblem<T>& p) {
  static const PanelGemm<T>* const kernel = fastest(panel_gemm_implementations<T>());
  return kernel != nullptr && p.n >= 1 && beats_the_library(p) ? *kernel : nullptr;
}

template void multiply_panels(const torch::Tensor&, const GemvProblem<float>&, int64_t, int64_t);
template void multiply_panels(const torch::Tensor&, const GemvProblem<c10::BFloat16>&, int64_t,
                              int64_t);
template PanelGemm<float> panel_gemm(const GemvProblem<float>&);
template PanelGemm<c10::BFloat16> panel_gemm(const GemvProblem<c10::BFloat16>&);

}  // namespace schmidt::kernels
