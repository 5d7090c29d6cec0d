#include "schmidt/kernels/quantized_decode.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/util/Half.h>

#include "schmidt/kernels/quantized_x86.h"

namespace schmidt::kernels {
namespace {

template <typename S>
void widen_scales(const QuantizedWeight& w, int64_t i, float* to) {
  const auto* from = static_cast<const S*>(w.scales) + i * w.groups();
  for (int64_t g = 0; g < w.groups(); ++g) to[g] = static_cast<float>(from[g]);
}

template <typename T>
void reference(const QuantizedWeight& w, int64_t begin, int64_t end, T* to) {
  std::vector<float> scales(w.groups()), zeros(w.groups()), row(w.n);
  for (int64_t i = begin; i < end; ++i, to += w.n) {
    read_scales(w, i, scales.data(), zeros.data());
    quant::decode_row(w.format, w.n, w.words + i * w.row_words(), scales.data(),
                      w.zeros == nullptr ? nullptr : w.zeros + i * w.groups(), row.data());
    std::copy_n(row.data(), w.n, to);
  }
}

void reference_codes(const QuantizedWeight& w, const Int8Layout& layout, int64_t i, int64_t count,
                     uint8_t* to) {
  std::vector<uint8_t> codes(w.n);
  for (int64_t o = 0; o < count; ++o) {
    quant::unpack_codes(w.words + (i + o) * w.row_words(), w.n, w.format.bits, codes.data());
    for (int64_t j = 0; j < panel_columns(layout); ++j) {
      const int64_t code = layout.code_of[j / kInt8Block] + j % kInt8Block;
      to[(j / 4 * kPanelRows + o) * 4 + j % 4] = code < w.n ? codes[code] : 0;
    }
  }
}

/// Numbers that a thread should write at least, for it to be worth waking.
constexpr int64_t kNumbersPerThread = 32 << 10;

template <typename T>
void run(DecodeKernel<T> kernel, const QuantizedWeight& w, int64_t begin, int64_t end, T* to) {
  const int64_t grain = std::max<int64_t>(1, kNumbersPerThread / std::max<int64_t>(1, w.n));
  at::parallel_for(begin, end, grain, [&](int64_t from, int64_t stop) {
    kernel(w, from, stop, to + (from - begin) * w.n);
  });
}

const DecodeKernels& chosen() {
  static const DecodeKernels* const kernels = fastest(decode_implementations());
  return *kernels;
}

}  // namespace

void read_scales(const QuantizedWeight& w, int64_t i, float* scales, float* zeros) {
  switch (w.scale_type) {
    case c10::ScalarType::BFloat16:
      widen_scales<c10::BFloat16>(w, i, scales);
      break;
    case c10::ScalarType::Half:
      widen_scales<c10::Half>(w, i, scales);
      break;
    default:
      widen_scales<float>(w, i, scales);
      break;
  }
  for (int64_t g = 0; g < w.groups(); ++g) {
    zeros[g] = w.zeros == nullptr ? static_cast<float>(w.format.middle())
                                  : static_cast<float>(w.zeros[i * w.groups() + g]);
  }
}

const Implementations<DecodeKernels>& decode_implementations() {
  static const Implementations<DecodeKernels> all = [] {
    Implementations<DecodeKernels> found = {
        {InstructionSet::kPortable, {reference<float>, reference<c10::BFloat16>, reference_codes}}};
    for (const auto& implementation : x86_decode_implementations()) found.push_back(implementation);
    return found;
  }();
  return all;
}

void decode_rows(const QuantizedWeight& w, int64_t begin, int64_t end, float* to) {
  run(chosen().float32, w, begin, end, to);
}
void decode_rows(const QuantizedWeight& w, int64_t begin, int64_t end, c10::BFloat16* to) {
  run(chosen().bfloat16, w, begin, end, to);
}

}  // namespace schmidt::kernels
