#include "schmidt/kernels/linear.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/gemv.h"

namespace schmidt::kernels {
namespace {

/// Most rows for which gemv() is the faster one, measured on AVX-512 against MKL
/// (float32) and oneDNN with its matrix unit (bfloat16), which needs some 20
/// microseconds before it starts: a small product is done by then.
int64_t most_rows(const torch::Tensor& w) {
  constexpr int64_t kSmall = 256 << 10;  // bytes of weights
  return w.scalar_type() == at::kFloat || static_cast<int64_t>(w.nbytes()) <= kSmall ? 16 : 8;
}

bool suits_gemv(const torch::Tensor& x, const torch::Tensor& w,
                const std::optional<torch::Tensor>& bias, int64_t rows) {
  return rows >= 1 && rows <= most_rows(w) && w.numel() > 0 && w.stride(1) == 1 && gemv_is_fast() &&
         fast_path({&x, &w}) && (!bias || fast_path({&*bias}));
}

template <typename T>
torch::Tensor few_rows(const torch::Tensor& x, const torch::Tensor& w,
                       const std::optional<torch::Tensor>& bias, int64_t rows) {
  const torch::Tensor input = x.contiguous();
  const torch::Tensor offset = bias ? bias->contiguous() : torch::Tensor();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = w.size(0);
  torch::Tensor y = at::empty(shape, x.options());
  gemv({input.const_data_ptr<T>(), w.const_data_ptr<T>(),
        bias ? offset.const_data_ptr<T>() : nullptr, y.mutable_data_ptr<T>(), rows, w.size(0),
        w.size(1), w.size(1), w.stride(0), w.size(0)});
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
  if (!suits_gemv(x, w, bias, rows)) return at::linear(x, w, bias);
  return w.scalar_type() == at::kFloat ? few_rows<float>(x, w, bias, rows)
                                       : few_rows<c10::BFloat16>(x, w, bias, rows);
}

}  // namespace schmidt::kernels
