#include "schmidt/kernels/moments.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <c10/util/BFloat16.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/kernels/loops.h"
#include "schmidt/kernels/processor.h"

#if defined(__x86_64__)
#include "schmidt/kernels/word_tiles_x86.h"
#endif

namespace schmidt::kernels {
namespace {

void check(const torch::Tensor& sum, const torch::Tensor& x, const torch::Tensor& y) {
  TORCH_CHECK_VALUE(x.dim() == 2 && y.dim() == 2 && x.size(0) == y.size(0) && sum.dim() == 2 &&
                        sum.size(0) == x.size(1) && sum.size(1) == y.size(1) && sum.is_contiguous(),
                    "[moments] expected sums [m, n] of x [tokens, m] and y [tokens, n], got ",
                    sum.sizes(), ", ", x.sizes(), " and ", y.sizes());
  TORCH_CHECK_VALUE(sum.scalar_type() == torch::kFloat32 && x.scalar_type() == y.scalar_type() &&
                        x.is_floating_point() && x.device() == y.device() &&
                        x.device() == sum.device(),
                    "[moments] expected float32 sums of two matrices of one dtype and device");
}

/// By the library, in stripes of rows of which the triangle's need not begin before the diagonal.
void by_the_library(const torch::Tensor& sum, const torch::Tensor& x, const torch::Tensor& y,
                    bool upper) {
  const int64_t m = sum.size(0), n = sum.size(1);
  const int64_t most = upper ? 192 : m;  // wide enough for a product at full speed
  const torch::Tensor left = x.to(torch::kFloat32);
  const torch::Tensor right = y.is_same(x) ? left : y.to(torch::kFloat32);
  for (int64_t begin = 0; begin < m; begin += most) {
    const int64_t rows = std::min(most, m - begin), from = upper ? begin : 0;
    sum.narrow(0, begin, rows)
        .narrow(1, from, n - from)
        .addmm_(left.narrow(1, begin, rows).t(), right.narrow(1, from, n - from));
  }
}

#if defined(__x86_64__)
using c10::BFloat16;
using tiles::Word;

constexpr int64_t kPanel = 64;           // columns of a product
constexpr int64_t kWordsTogether = 128;  // whose panel stays in the nearest cache
constexpr int64_t kPadding = 16;  // words behind a row, so that rows do not share a cache's places

/// A matrix [tokens, n] as words, those of neighbouring tokens side by side.
struct Words {
  const Word* data;
  int64_t words, stride;
};

/// Rows 2 p and 2 p + 1 as words; the second one may be missing.
SCHMIDT_BF16 void pair_rows(const BFloat16* even, const BFloat16* odd, int64_t n, Word* to) {
  int64_t j = 0;
  for (; j + 16 <= n; j += 16) {
    const __m256i low = _mm256_loadu_si256((const __m256i*)(even + j));
    __m256i high = _mm256_setzero_si256();
    if (odd != nullptr) high = _mm256_loadu_si256((const __m256i*)(odd + j));
    _mm512_storeu_si512(to + j, tiles::paired(low, high));
  }
  for (; j < n; ++j) to[j] = even[j].x | (odd == nullptr ? Word{0} : Word{odd[j].x} << 16);
}

/// `held` takes the words where the matrix does not lie so.
Words words_of(const torch::Tensor& x, torch::Tensor& held) {
  const int64_t tokens = x.size(0), n = x.size(1);
  if (x.scalar_type() == torch::kFloat32) {
    return {reinterpret_cast<const Word*>(x.const_data_ptr<float>()), tokens, n};
  }
  const int64_t words = (tokens + 1) / 2, stride = n + kPadding;
  held = at::empty({words, stride}, torch::kInt32);
  auto* const to = reinterpret_cast<Word*>(held.mutable_data_ptr<int32_t>());
  const auto* const from = x.const_data_ptr<BFloat16>();
  at::parallel_for(0, words, 64, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const BFloat16* const even = from + 2 * p * n;
      pair_rows(even, 2 * p + 1 < tokens ? even + n : nullptr, n, to + p * stride);
    }
  });
  return {to, words, stride};
}

/// `columns` of them from column j on, beside each other.
template <typename Multiplied>
SCHMIDT_BF16 void add_panel(const Words& x, int64_t rows, const Words& y, int64_t j,
                            int64_t columns, float* sum, int64_t sum_stride) {
  alignas(64) Word panel[kWordsTogether * kPanel];
  for (int64_t begin = 0; begin < x.words; begin += kWordsTogether) {
    const int64_t words = std::min(kWordsTogether, x.words - begin);
    const Word* from = y.data + begin * y.stride + j;
    for (int64_t p = 0; p < words; ++p, from += y.stride) {
      for (int64_t c = 0; c < columns; c += 16) {
        _mm512_store_si512(panel + p * kPanel + c, _mm512_loadu_si512(from + c));
      }
    }
    tiles::multiply<Multiplied>({x.data + begin * x.stride, 1, x.stride}, panel, kPanel, sum + j,
                                sum_stride, rows, columns, words, /*add=*/true);
  }
}

bool fits_vectors(const torch::Tensor& x, const torch::Tensor& y) {
  return supported(InstructionSet::kAvx512Bf16) && x.is_cpu() && y.size(1) % 16 == 0 &&
         (x.scalar_type() == torch::kBFloat16 ||
          (x.scalar_type() == torch::kFloat32 && mkl_leaves_vectors_unused()));
}

void by_vectors(const torch::Tensor& sum, const torch::Tensor& x, const torch::Tensor& y,
                bool upper) {
  const int64_t m = sum.size(0), n = sum.size(1), panels = (n + kPanel - 1) / kPanel;
  torch::Tensor held_x, held_y;
  const torch::Tensor left = x.contiguous(), right = y.is_same(x) ? left : y.contiguous();
  const Words a = words_of(left, held_x);
  const Words b = right.is_same(left) ? a : words_of(right, held_y);
  auto* const sums = sum.mutable_data_ptr<float>();
  const bool pairs = x.scalar_type() == torch::kBFloat16;
  // Panels further right have more of the triangle: they are dealt out in turn.
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), panels);
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      for (int64_t panel = thread; panel < panels; panel += threads) {
        const int64_t j = panel * kPanel, columns = std::min(kPanel, n - j);
        const int64_t rows = upper ? std::min(m, j + columns) : m;
        if (pairs) {
          add_panel<tiles::Pairs>(a, rows, b, j, columns, sums, n);
        } else {
          add_panel<tiles::Singles>(a, rows, b, j, columns, sums, n);
        }
      }
    }
  });
}
#endif

void add(const torch::Tensor& sum, const torch::Tensor& x, const torch::Tensor& y, bool upper) {
  check(sum, x, y);
  if (x.size(0) == 0) return;
#if defined(__x86_64__)
  if (fits_vectors(x, y)) return by_vectors(sum, x, y, upper);
#endif
  by_the_library(sum, x, y, upper);
}

/// The sum of squares of n numbers, in as many sums as vectors have lanes.
struct SquareSum {
  template <typename T>
  SCHMIDT_INLINE_LOOP static void run(const T* x, int64_t n, float* to) {
    constexpr int64_t kLanes = 16;
    float lanes[kLanes] = {};
    int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += square(x[j + lane]);
    }
    for (; j < n; ++j) lanes[0] += square(x[j]);
    float sum = 0;
    for (const float lane : lanes) sum += lane;
    *to = sum;
  }

  template <typename T>
  SCHMIDT_INLINE_LOOP static float square(T x) {
    return widen(x) * widen(x);
  }
};

/// sum_j += weight x_j^2.
struct AddSquares {
  template <typename T>
  SCHMIDT_INLINE_LOOP static void run(const T* x, float weight, float* sum, int64_t n) {
    for (int64_t j = 0; j < n; ++j) sum[j] += weight * SquareSum::square(x[j]);
  }
};

constexpr int64_t kColumnsTogether = 256, kTokensTogether = 64;  // whose sums are added at once

void check_rows(const torch::Tensor& x) {
  TORCH_CHECK_VALUE(x.dim() == 2 && x.is_floating_point(),
                    "[moments] expected x [tokens, n] of floating-point numbers, got ", x.sizes());
}

/// Whether rows of x are read as they lie.
bool fits_rows(const torch::Tensor& x) {
  return fast_types({&x}) && (x.size(1) <= 1 || x.stride(1) == 1);
}

}  // namespace

torch::Tensor row_squares(const torch::Tensor& x) {
  check_rows(x);
  if (!fits_rows(x)) return x.to(torch::kFloat32).square().sum(1);
  const int64_t tokens = x.size(0), n = x.size(1), stride = x.stride(0);
  const torch::Tensor sums = at::empty({tokens}, at::TensorOptions(torch::kFloat32));
  auto* const to = sums.mutable_data_ptr<float>();
  with_fast_type(x.scalar_type(), [&]<typename T>(T* /*type*/) {
    const T* const from = x.const_data_ptr<T>();
    at::parallel_for(0, tokens, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n)),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t t = begin; t < end; ++t) {
                         run_fastest<SquareSum>(from + t * stride, n, to + t);
                       }
                     });
  });
  return sums;
}

void add_weighted_squares(const torch::Tensor& sum, const torch::Tensor& weights,
                          const torch::Tensor& x) {
  check_rows(x);
  TORCH_CHECK_VALUE(sum.dim() == 1 && sum.size(0) == x.size(1) && sum.is_contiguous() &&
                        weights.dim() == 1 && weights.size(0) == x.size(0) &&
                        sum.scalar_type() == torch::kFloat32 &&
                        weights.scalar_type() == torch::kFloat32,
                    "[moments] expected float32 sums [n] and weights [tokens] of x [tokens, n], ",
                    "got ", sum.sizes(), ", ", weights.sizes(), " and ", x.sizes());
  if (!fits_rows(x)) {
    sum.add_(at::matmul(weights, x.to(torch::kFloat32).square()));
    return;
  }
  const int64_t tokens = x.size(0), n = x.size(1), stride = x.stride(0);
  const torch::Tensor factors = weights.contiguous();
  const auto* const of_token = factors.const_data_ptr<float>();
  auto* const to = sum.mutable_data_ptr<float>();
  with_fast_type(x.scalar_type(), [&]<typename T>(T* /*type*/) {
    const T* const from = x.const_data_ptr<T>();
    const int64_t parts = (n + kColumnsTogether - 1) / kColumnsTogether;
    at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t j = first * kColumnsTogether; j < std::min(n, last * kColumnsTogether);
           j += kColumnsTogether) {
        const int64_t columns = std::min(kColumnsTogether, n - j);
        for (int64_t begin = 0; begin < tokens; begin += kTokensTogether) {
          float some[kColumnsTogether] = {};
          for (int64_t t = begin; t < std::min(tokens, begin + kTokensTogether); ++t) {
            run_fastest<AddSquares>(from + t * stride + j, of_token[t], &some[0], columns);
          }
          for (int64_t c = 0; c < columns; ++c) to[j + c] += some[c];
        }
      }
    });
  });
}

void add_cross_moments(const torch::Tensor& sum, const torch::Tensor& x, const torch::Tensor& y) {
  add(sum, x, y, /*upper=*/false);
}

void add_moments(const torch::Tensor& sum, const torch::Tensor& x) {
  add(sum, x, x, /*upper=*/true);
}

}  // namespace schmidt::kernels
