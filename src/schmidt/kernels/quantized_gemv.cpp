#include "schmidt/kernels/quantized_gemv.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/Parallel.h>

#include "schmidt/kernels/quantized_decode.h"
#include "schmidt/kernels/quantized_x86.h"

namespace schmidt::kernels {
namespace {

void round_row(const float* x, int64_t n, int8_t* codes, float* scales, float* sums) {
  for (int64_t begin = 0; begin < n; begin += kInt8Block, scales += 8, ++sums) {
    const int64_t end = std::min(begin + kInt8Block, n);
    float largest = 0.0F;
    bool finite = true;
    for (int64_t j = begin; j < end; ++j) {
      largest = std::max(largest, std::fabs(x[j]));
      finite = finite && std::isfinite(x[j]);
    }
    const float scale = finite ? std::max(largest / 127.0F, std::ldexp(1.0F, -120))
                               : std::numeric_limits<float>::quiet_NaN();
    int sum = 0;
    for (int64_t j = begin; j < end; ++j) {
      codes[j] = finite ? static_cast<int8_t>(std::nearbyint(x[j] * (1.0F / scale))) : int8_t{0};
      sum += codes[j];
    }
    std::fill_n(scales, 8, scale);
    *sums = scale * static_cast<float>(sum);
  }
}

template <typename T>
void reference(const QuantizedWeight& w, const Int8Rows& x, int64_t begin, int64_t end,
               const Outputs<T>& to) {
  std::vector<uint8_t> q(w.n);
  std::vector<float> scales(w.groups()), zeros(w.groups());
  for (int64_t i = begin; i < end; ++i) {
    quant::unpack_codes(w.words + i * w.row_words(), w.n, w.format.bits, q.data());
    read_scales(w, i, scales.data(), zeros.data());
    for (int64_t row = 0; row < x.rows; ++row) {
      float y = 0.0F;
      for (int64_t g = 0; g < w.groups(); ++g) {
        y -= scales[g] * zeros[g] * x.group_sums[row * x.groups + g];
      }
      for (int64_t block = 0; block < x.blocks; ++block) {
        const int64_t first = x.code_of[block], stop = std::min(first + kInt8Block, w.n);
        const int8_t* const codes = x.codes.data() + row * x.columns + block * kInt8Block;
        int sum = 0;
        for (int64_t j = first; j < stop; ++j) sum += q[j] * codes[j - first];
        y += scales[x.group_of[block]] *
             (x.scales[(row * x.columns / kInt8Block + block) * 8] * static_cast<float>(sum));
      }
      to.y[row * to.stride + i] = static_cast<T>(y);
    }
  }
}

const Int8Kernels& chosen() {
  static const Int8Kernels* const kernels = fastest(int8_implementations());
  return *kernels;
}

void lay_out(const QuantizedWeight& w, int64_t rows, Int8Rows& to) {
  lay_out(w, to);
  const int64_t blocks = to.columns / kInt8Block;
  to.rows = rows;
  to.codes.assign(rows * to.columns, 0);
  to.scales.assign(rows * blocks * 8, 0.0F);
  to.sums.resize(rows * blocks);
  to.group_sums.assign(rows * to.groups, 0.0F);
}

void round_one(const Int8Kernels& kernels, const QuantizedWeight& w, const float* x, int64_t row,
               Int8Rows& to) {
  const int64_t blocks = to.columns / kInt8Block;
  float* const sums = to.sums.data() + row * blocks;
  const float* from = x + row * w.n;
  int64_t n = w.n;
  if (!suits_int8_blocks(w)) {
    thread_local std::vector<float> spread_out;
    spread_out.resize(to.columns);
    spread(w, to, from, spread_out.data());
    from = spread_out.data();
    n = to.columns;
  }
  kernels.round_row(from, n, to.codes.data() + row * to.columns,
                    to.scales.data() + row * blocks * 8, sums);
  for (int64_t b = 0; b < to.blocks; ++b) {
    to.group_sums[row * to.groups + to.group_of[b]] += sums[b];
  }
}

/// Numbers of x that a thread rounds at least, for it to be worth waking.
constexpr int64_t kRoundedPerThread = 32 << 10;

/// Codes below which a second thread costs more than it brings.
constexpr int64_t kCodesPerThread = 64 << 10;

template <typename T>
void run(Int8Kernel<T> kernel, const QuantizedWeight& w, const float* x, int64_t rows,
         bool int8_activations, const Outputs<T>& to) {
  const int64_t grain = std::max<int64_t>(1, kCodesPerThread / std::max<int64_t>(1, w.n));
  if (!int8_activations || !suits_int8(w)) {
    static const DecodeKernel<float> decode = fastest(decode_implementations())->float32;
    const auto decode_rows = [&](int64_t begin, int64_t end, float* numbers) {
      decode(w, begin, end, numbers);
    };
    return multiply_held_rows(decode_rows, w.m, w.n, x, rows, grain, to);
  }
  const Int8Rows rounded = int8_rows(w, x, rows);
  at::parallel_for(0, w.m, grain,
                   [&](int64_t begin, int64_t end) { kernel(w, rounded, begin, end, to); });
}

}  // namespace

const Implementations<Int8Kernels>& int8_implementations() {
  static const Implementations<Int8Kernels> all = [] {
    Implementations<Int8Kernels> found = {
        {InstructionSet::kPortable, {round_row, reference<float>, reference<c10::BFloat16>}}};
    for (const auto& implementation : x86_int8_implementations()) found.push_back(implementation);
    return found;
  }();
  return all;
}

Int8Rows int8_rows(const Int8Kernels& kernels, const QuantizedWeight& w, const float* x,
                   int64_t rows) {
  Int8Rows to;
  lay_out(w, rows, to);
  const int64_t grain = std::max<int64_t>(1, kRoundedPerThread / std::max<int64_t>(1, w.n));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) round_one(kernels, w, x, row, to);
  });
  return to;
}

void round_rows(const QuantizedWeight& w, const float* x, int64_t rows, Int8Rows& to) {
  lay_out(w, rows, to);
  for (int64_t row = 0; row < rows; ++row) round_one(chosen(), w, x, row, to);
}

void multiply_int8(const QuantizedWeight& w, const Int8Rows& x, int64_t begin, int64_t end,
                   const Outputs<float>& y) {
  chosen().float32(w, x, begin, end, y);
}
void multiply_int8(const QuantizedWeight& w, const Int8Rows& x, int64_t begin, int64_t end,
                   const Outputs<c10::BFloat16>& y) {
  chosen().bfloat16(w, x, begin, end, y);
}

Int8Rows int8_rows(const QuantizedWeight& w, const float* x, int64_t rows) {
  return int8_rows(chosen(), w, x, rows);
}

void quantized_gemv(const QuantizedWeight& w, const float* x, int64_t rows, bool int8_activations,
                    const Outputs<float>& y) {
  run(chosen().float32, w, x, rows, int8_activations, y);
}
void quantized_gemv(const QuantizedWeight& w, const float* x, int64_t rows, bool int8_activations,
                    const Outputs<c10::BFloat16>& y) {
  run(chosen().bfloat16, w, x, rows, int8_activations, y);
}

}  // namespace schmidt::kernels
