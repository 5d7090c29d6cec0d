#include "schmidt/kernels/nf4_linear.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "schmidt/kernels/decoded_gemm.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/held_rows.h"
#include "schmidt/kernels/nf4_x86.h"
#include "schmidt/kernels/panel_gemm.h"

namespace schmidt::kernels {
namespace {

/// Most rows of x for which this is faster than tiles of W and a library's product.
constexpr int64_t kMostRows = 16;

/// Numbers for which another thread is worth waking.
constexpr int64_t kNumbersPerThread = 32 << 10;

void reference(const Nf4Weight& w, int64_t begin, int64_t end, float* to) {
  quant::decode_nf4(w.codes, w.scales, w.block, begin, end, to);
}

void reference_bfloat16(const Nf4Weight& w, int64_t begin, int64_t end, c10::BFloat16* to) {
  std::vector<float> numbers(static_cast<size_t>(end - begin));
  reference(w, begin, end, numbers.data());
  std::ranges::copy(numbers, to);
}

const Nf4Kernels& chosen() {
  static const Nf4Kernels* const kernels = fastest(nf4_implementations());
  return *kernels;
}

int64_t grain_of(const Nf4Weight& w) {
  return std::max<int64_t>(1, kNumbersPerThread / std::max<int64_t>(1, w.n));
}

int64_t rows_of(const torch::Tensor& x, const Nf4Weight& w) {
  return w.n == 0 ? 0 : x.numel() / w.n;
}

template <typename T>
void multiply(const Nf4Weight& w, const float* x, int64_t rows, T* y) {
  const auto decode = [&](int64_t begin, int64_t end, float* to) {
    chosen().decode(w, begin * w.n, end * w.n, to);
  };
  multiply_held_rows(decode, w.m, w.n, x, rows, grain_of(w), Outputs<T>{y, w.m});
}

/// Null where tiles and a library's product are faster.
template <typename T>
PanelGemm<T> panels_for(const Nf4Weight& w, int64_t rows) {
  if (rows <= kMostRows || w.n % 2 != 0) return nullptr;
  return panel_gemm(contiguous_problem<T>(nullptr, rows, w.m, w.n, nullptr));
}

/// The product of many rows by panels of decoded rows.
template <typename T>
void multiply_by_panels(const Nf4Weight& w, PanelGemm<T> multiply, const T* x, int64_t rows, T* y) {
  decoded_gemm(contiguous_problem(x, rows, w.m, w.n, y), multiply,
               [&](int64_t begin, int64_t end, T* to) {
                 if constexpr (std::is_same_v<T, float>) {
                   chosen().decode(w, begin * w.n, end * w.n, to);
                 } else {
                   chosen().decode_bfloat16(w, begin * w.n, end * w.n, to);
                 }
               });
}

/// x [rows, n] in the order that Nf4Dot reads.
void put_in_runs(const float* x, int64_t count, int64_t lanes, float* to) {
  for (int64_t run = 0; run < count; run += 2 * lanes) {
    for (int64_t i = 0; i < lanes; ++i) {
      to[run + i] = x[run + 2 * i];
      to[run + lanes + i] = x[run + 2 * i + 1];
    }
  }
}

/// Outputs begin .. end - 1 by dot products, on this thread.
template <typename T>
void multiply_share(const Nf4Weight& w, const float* x, int64_t rows, int64_t begin, int64_t end,
                    const Outputs<T>& to, std::vector<float>& numbers) {
  numbers.resize(rows * (w.n + w.m));
  put_in_runs(x, rows * w.n, chosen().lanes, numbers.data());
  float* const sums = numbers.data() + rows * w.n;
  chosen().dot(w, numbers.data(), rows, begin, end, sums);
  for (int64_t row = 0; row < rows; ++row) {
    std::copy(sums + row * w.m + begin, sums + row * w.m + end, to.y + row * to.stride + begin);
  }
}

/// All outputs so, on several threads.
template <typename T>
void multiply_by_dots(const Nf4Weight& w, const float* x, int64_t rows, T* y) {
  const Nf4Kernels& kernels = chosen();
  std::vector<float> runs(rows * w.n);
  put_in_runs(x, rows * w.n, kernels.lanes, runs.data());
  const auto dots = [&](float* to) {
    at::parallel_for(0, w.m, grain_of(w), [&](int64_t begin, int64_t end) {
      kernels.dot(w, runs.data(), rows, begin, end, to);
    });
  };
  if constexpr (std::is_same_v<T, float>) {
    dots(y);
  } else {
    std::vector<float> sums(rows * w.m);
    dots(sums.data());
    std::copy_n(sums.data(), sums.size(), y);
  }
}

}  // namespace

const Implementations<Nf4Kernels>& nf4_implementations() {
  static const Implementations<Nf4Kernels> all = [] {
    Implementations<Nf4Kernels> found = {
        {InstructionSet::kPortable, {.decode = reference, .decode_bfloat16 = reference_bfloat16}}};
    for (const auto& implementation : x86_nf4_implementations()) found.push_back(implementation);
    return found;
  }();
  return all;
}

bool has_nf4_dots(const Nf4Weight& w) { return suits_dot(w, chosen()); }

void multiply_nf4(const Nf4Weight& w, const float* x, int64_t rows, int64_t begin, int64_t end,
                  const Outputs<float>& y, std::vector<float>& numbers) {
  multiply_share(w, x, rows, begin, end, y, numbers);
}
void multiply_nf4(const Nf4Weight& w, const float* x, int64_t rows, int64_t begin, int64_t end,
                  const Outputs<c10::BFloat16>& y, std::vector<float>& numbers) {
  multiply_share(w, x, rows, begin, end, y, numbers);
}

void decode_nf4_rows(const Nf4Weight& w, int64_t begin, int64_t end, float* to) {
  at::parallel_for(begin, end, grain_of(w), [&](int64_t first, int64_t last) {
    chosen().decode(w, first * w.n, last * w.n, to + (first - begin) * w.n);
  });
}

bool suits_nf4_linear(const torch::Tensor& x, const Nf4Weight& w) {
  const int64_t rows = rows_of(x, w);
  if (rows < 1 || w.m == 0 || !gemv_is_fast() || !fast_path({&x})) return false;
  bool suits = rows <= kMostRows;
  with_fast_type(x.scalar_type(), [&]<typename T>(T* /*type*/) {
    suits = suits || panels_for<T>(w, rows) != nullptr;
  });
  return suits;
}

torch::Tensor nf4_linear(const torch::Tensor& x, const Nf4Weight& w) {
  TORCH_CHECK_VALUE(x.dim() >= 1 && x.size(-1) == w.n && fast_types({&x}),
                    "[nf4_linear] expected x [.., ", w.n,
                    "] in float32 or bfloat16 on the CPU, got ", x.sizes(), " in ", x.scalar_type(),
                    " on ", x.device());
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = w.m;
  torch::Tensor y = at::empty(sizes, x.options());
  if (y.numel() == 0 || w.n == 0) return y.zero_();
  with_fast_type(x.scalar_type(), [&]<typename T>(T* /*type*/) {
    const int64_t rows = rows_of(x, w);
    T* const to = y.mutable_data_ptr<T>();
    if (const PanelGemm<T> panels = panels_for<T>(w, rows)) {
      const torch::Tensor input = x.contiguous();
      return multiply_by_panels(w, panels, input.const_data_ptr<T>(), rows, to);
    }
    const torch::Tensor wide = x.to(torch::kFloat32).contiguous();
    const bool by_dots = rows <= kMostDotRows && suits_dot(w, chosen());
    (by_dots ? multiply_by_dots<T> : multiply<T>)(w, wide.const_data_ptr<float>(), rows, to);
  });
  return y;
}

}  // namespace schmidt::kernels
