#include "schmidt/kernels/quantized_gemm.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "schmidt/kernels/quantized_decode.h"
#include "schmidt/kernels/quantized_gemm_x86.h"

namespace schmidt::kernels {
namespace {

template <typename T>
void reference(const Panel& w, const Int8Rows& x, int64_t i, int64_t count, const Outputs<T>& to) {
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t o = 0; o < count; ++o) {
      float y = 0.0F;
      for (int64_t g = 0; g < w.groups; ++g) {
        y -= w.offsets[g * kPanelRows + o] * x.group_sums[row * x.groups + g];
      }
      for (int64_t block = 0; block < w.columns / kInt8Block; ++block) {
        int sum = 0;
        for (int64_t j = block * kInt8Block; j < (block + 1) * kInt8Block; ++j) {
          sum += w.codes[(j / 4 * kPanelRows + o) * 4 + j % 4] * x.codes[row * x.columns + j];
        }
        y += w.scales[x.group_of[block] * kPanelRows + o] *
             (x.scales[(row * x.columns / kInt8Block + block) * 8] * static_cast<float>(sum));
      }
      to.y[row * to.stride + i + o] = static_cast<T>(y);
    }
  }
}

/// Memory of one panel after another.
class Panels {
 public:
  Panels(const QuantizedWeight& w, const Int8Layout& layout)
      : w_(&w),
        layout_(&layout),
        codes_(panel_columns(layout) * kPanelRows),
        scales_(w.groups() * kPanelRows),
        offsets_(scales_.size()),
        row_scales_(w.groups()),
        row_zeros_(w.groups()) {}

  /// Rows i .. i + count - 1.
  Panel take(int64_t i, int64_t count) {
    static const PanelCodes codes = fastest(decode_implementations())->panel_codes;
    codes(*w_, *layout_, i, count, codes_.data());
    const int64_t groups = w_->groups();
    for (int64_t o = 0; o < kPanelRows; ++o) {
      if (o < count) {
        read_scales(*w_, i + o, row_scales_.data(), row_zeros_.data());
      } else {
        std::fill(row_scales_.begin(), row_scales_.end(), 0.0F);
      }
      for (int64_t g = 0; g < groups; ++g) {
        scales_[g * kPanelRows + o] = row_scales_[g];
        offsets_[g * kPanelRows + o] = row_scales_[g] * row_zeros_[g];
      }
    }
    return {codes_.data(), scales_.data(), offsets_.data(), panel_columns(*layout_), groups};
  }

 private:
  const QuantizedWeight* w_;
  const Int8Layout* layout_;
  std::vector<uint8_t> codes_;
  std::vector<float> scales_, offsets_, row_scales_, row_zeros_;
};

template <typename T>
void panels(PanelKernel<T> kernel, const QuantizedWeight& w, const Int8Rows& x, int64_t begin,
            int64_t end, const Outputs<T>& to) {
  Panels memory(w, x);
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t i = panel * kPanelRows, count = std::min(kPanelRows, w.m - i);
    kernel(memory.take(i, count), x, i, count, to);
  }
}

int64_t panels_of(const QuantizedWeight& w) { return (w.m + kPanelRows - 1) / kPanelRows; }

const PanelKernels& chosen() {
  static const PanelKernels* const kernels = fastest(panel_implementations());
  return *kernels;
}

template <typename T>
void run(PanelKernel<T> kernel, const QuantizedWeight& w, const float* x, int64_t rows,
         const Outputs<T>& to) {
  const Int8Rows rounded = int8_rows(w, x, rows);
  at::parallel_for(0, panels_of(w), 1,
                   [&](int64_t begin, int64_t end) { panels(kernel, w, rounded, begin, end, to); });
}

}  // namespace

const Implementations<PanelKernels>& panel_implementations() {
  static const Implementations<PanelKernels> all = [] {
    Implementations<PanelKernels> found = {
        {InstructionSet::kPortable, {reference<float>, reference<c10::BFloat16>}}};
    for (const auto& implementation : x86_panel_implementations()) found.push_back(implementation);
    return found;
  }();
  return all;
}

bool quantized_gemm_is_fast() {
  static const bool fast = &chosen() != &panel_implementations().front().functions;
  return fast;
}

void quantized_gemm(const QuantizedWeight& w, const float* x, int64_t rows,
                    const Outputs<float>& y) {
  run(chosen().float32, w, x, rows, y);
}

void quantized_gemm(const QuantizedWeight& w, const float* x, int64_t rows,
                    const Outputs<c10::BFloat16>& y) {
  run(chosen().bfloat16, w, x, rows, y);
}

template <typename T>
void quantized_gemm(PanelKernel<T> kernel, const QuantizedWeight& w, const Int8Rows& x,
                    const Outputs<T>& y) {
  panels(kernel, w, x, 0, panels_of(w), y);
}

template void quantized_gemm(PanelKernel<float>, const QuantizedWeight&, const Int8Rows&,
                             const Outputs<float>&);
template void quantized_gemm(PanelKernel<c10::BFloat16>, const QuantizedWeight&, const Int8Rows&,
                             const Outputs<c10::BFloat16>&);

}  // namespace schmidt::kernels
