#include "schmidt/kernels/linear.h"

#include <type_traits>

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include "schmidt/kernels/bfloat16_gemm.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/gemv.h"

namespace schmidt::kernels {
namespace {

constexpr int64_t kSmall = 256 << 10;  // bytes of weights

/// Most rows for which gemv() is the faster one, measured on AVX-512 against bfloat16_gemm(), or
/// where that is none against MKL (float32) and oneDNN with its matrix unit (bfloat16), which needs
/// some 20 microseconds before it starts: a small product is done by then.
int64_t most_rows_of_gemv(const torch::Tensor& w, bool beside_gemm) {
  const bool small = static_cast<int64_t>(w.nbytes()) <= kSmall;
  if (beside_gemm) return small ? 8 : 4;
  return w.scalar_type() == at::kFloat || small ? 16 : 8;
}

bool are_fast(const torch::Tensor& x, const torch::Tensor& w,
              const std::optional<torch::Tensor>& bias) {
  return w.numel() > 0 && w.stride(1) == 1 && fast_path({&x, &w}) && (!bias || fast_path({&*bias}));
}

/// The product by kernels of this folder; undefined where a library's is faster.
template <typename T>
torch::Tensor by_kernels(const torch::Tensor& x, const torch::Tensor& w,
                         const std::optional<torch::Tensor>& bias, int64_t rows) {
  const int64_t m = w.size(0), n = w.size(1);
  GemvProblem<T> problem{
      .rows = rows, .m = m, .n = n, .x_stride = n, .w_stride = w.stride(0), .y_stride = m};
  bool some = false;
  if constexpr (std::is_same_v<T, c10::BFloat16>) some = suits_bfloat16_gemm(problem);
  const bool few = rows <= most_rows_of_gemv(w, some) && gemv_is_fast();
  if (!few && !some) return {};
  // Rows of a wider matrix are taken as they lie.
  const bool strided = x.dim() == 2 && x.stride(1) == 1 && x.stride(0) >= n;
  const torch::Tensor input = strided ? x : x.contiguous();
  if (strided) problem.x_stride = x.stride(0);
  const torch::Tensor offset = bias ? bias->contiguous() : torch::Tensor();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = m;
  torch::Tensor y = at::empty(shape, x.options());
  problem.x = input.const_data_ptr<T>();
  problem.w = w.const_data_ptr<T>();
  if (bias) problem.bias = offset.const_data_ptr<T>();
  problem.y = y.mutable_data_ptr<T>();
  if (few) {
    gemv(problem);
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    bfloat16_gemm(problem);
  }
  return y;
}

}  // namespace

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& w,
                     const std::optional<torch::Tensor>& bias) {
  TORCH_CHECK_VALUE(w.dim() == 2 && x.dim() >= 1 && x.size(-1) == w.size(1),
                    "[linear] expected x [..., n] and w [m, n], got ", x.sizes(), " and ",
                    w.sizes());
  TORCH_CHECK_VALUE(x.scalar_type() == w.scalar_type() && x.device() == w.device(),
                    "[linear] expected x and w of one dtype and device, got ", x.scalar_type(),
                    " on ", x.device(), " and ", w.scalar_type(), " on ", w.device());
  TORCH_CHECK_VALUE(!bias || (bias->dim() == 1 && bias->size(0) == w.size(0) &&
                              bias->scalar_type() == w.scalar_type()),
                    "[linear] expected a bias of ", w.size(0), " x ", w.scalar_type(), ", got ",
                    bias->sizes(), " x ", bias->scalar_type());
  const int64_t rows = x.size(-1) == 0 ? 0 : x.numel() / x.size(-1);
  torch::Tensor y;
  if (rows >= 1 && are_fast(x, w, bias)) {
    y = w.scalar_type() == at::kFloat ? by_kernels<float>(x, w, bias, rows)
                                      : by_kernels<c10::BFloat16>(x, w, bias, rows);
  }
  return y.defined() ? y : at::linear(x, w, bias);
}

}  // namespace schmidt::kernels
