#include "schmidt/kernels/quantized_linear.h"

#include <ATen/ops/empty.h>

#include "schmidt/kernels/decoded_gemm.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/quantized_decode.h"
#include "schmidt/kernels/quantized_gemm.h"
#include "schmidt/kernels/quantized_gemv.h"

namespace schmidt::kernels {
namespace {

/// Most rows for which passes over the integers as they lie are the fastest way where the others
/// are numbers by tiles and the library.
constexpr int64_t kMostRows = 16;

/// The same where the others are products by panels.
int64_t most_rows_before_panels() { return supported(InstructionSet::kAvx512Vbmi) ? 8 : 4; }

int64_t rows_of(const torch::Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

bool suits_tiles(const torch::Tensor& x, const QuantizedWeight& w) {
  return x.scalar_type() == torch::kBFloat16 && decoded_gemm_is_fast(w, rows_of(x));
}

bool suits_panels(int64_t rows, const QuantizedWeight& w, Activations activations) {
  return rows > most_rows_before_panels() && activations == Activations::kInt8 && suits_int8(w) &&
         quantized_gemm_is_fast();
}

}  // namespace

QuantizedWeight quantized_weight(const quant::IntegerFormat& format, const torch::Tensor& packed,
                                 const torch::Tensor& scales, const torch::Tensor& zeros) {
  TORCH_INTERNAL_ASSERT(packed.is_cpu() && packed.is_contiguous() && scales.is_cpu() &&
                            scales.is_contiguous() && (!zeros.defined() || zeros.is_contiguous()),
                        "integers of a weight are contiguous and on the CPU");
  return {.format = format,
          .words = reinterpret_cast<const uint32_t*>(packed.const_data_ptr<int32_t>()),
          .scales = scales.const_data_ptr(),
          .scale_type = scales.scalar_type(),
          .zeros = zeros.defined() ? zeros.const_data_ptr<uint8_t>() : nullptr,
          .m = packed.size(0),
          .n = scales.size(1) * format.group};
}

bool suits_quantized_linear(const torch::Tensor& x, const QuantizedWeight& w,
                            Activations activations) {
  const int64_t rows = rows_of(x);
  return rows >= 1 && w.m > 0 && gemv_is_fast() && fast_path({&x}) &&
         (rows <= kMostRows || suits_tiles(x, w) || suits_panels(rows, w, activations));
}

torch::Tensor quantized_linear(const torch::Tensor& x, const QuantizedWeight& w,
                               Activations activations) {
  TORCH_CHECK_VALUE(x.dim() >= 1 && x.size(-1) == w.n, "[quantized_linear] expected x [..., ", w.n,
                    "], got ", x.sizes());
  TORCH_CHECK_VALUE(fast_types({&x}),
                    "[quantized_linear] expected x in float32 or bfloat16 on the CPU, got ",
                    x.scalar_type(), " on ", x.device());
  const int64_t rows = rows_of(x);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = w.m;
  torch::Tensor y = at::empty(shape, x.options());
  if (suits_tiles(x, w)) {
    const torch::Tensor input = x.contiguous();
    decoded_gemm(w, input.const_data_ptr<c10::BFloat16>(), rows,
                 y.mutable_data_ptr<c10::BFloat16>());
    return y;
  }
  const torch::Tensor input = x.to(torch::kFloat32).contiguous();
  with_fast_type(x.scalar_type(), [&]<typename T>(T* /*type*/) {
    const float* const from = input.const_data_ptr<float>();
    const Outputs<T> to{y.mutable_data_ptr<T>(), w.m};
    if (suits_panels(rows, w, activations)) {
      quantized_gemm(w, from, rows, to);
    } else {
      quantized_gemv(w, from, rows, activations == Activations::kInt8, to);
    }
  });
  return y;
}

void decode_into(const QuantizedWeight& w, int64_t begin, int64_t end, const torch::Tensor& to) {
  TORCH_INTERNAL_ASSERT(fast_types({&to}) && to.is_contiguous() &&
                        to.numel() == (end - begin) * w.n);
  with_fast_type(to.scalar_type(), [&]<typename T>(T* /*type*/) {
    decode_rows(w, begin, end, to.mutable_data_ptr<T>());
  });
}

}  // namespace schmidt::kernels
