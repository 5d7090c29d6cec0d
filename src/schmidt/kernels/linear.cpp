#include "schmidt/kernels/linear.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/row_kernel.h"

namespace schmidt::kernels {
namespace {

/// Rows of x as a kernel reads them that takes pairs.
torch::Tensor in_pairs(const torch::Tensor& x, int64_t rows, int64_t n) {
  torch::Tensor even = at::zeros({rows, n + n % 2}, x.options());
  even.narrow(1, 0, n).copy_(x.reshape({rows, n}));
  return even;
}

bool are_fast(const torch::Tensor& x, const torch::Tensor& w,
              const std::optional<torch::Tensor>& bias) {
  return w.numel() > 0 && w.stride(1) == 1 && fast_path({&x, &w}) && (!bias || fast_path({&*bias}));
}

/// The product by kernels of this folder, into rows that lie `y_stride` apart from `to` on; false,
/// and nothing is written, where a library's is faster.
template <typename T>
bool by_kernels(const torch::Tensor& x, const torch::Tensor& w,
                const std::optional<torch::Tensor>& bias, int64_t rows, T* to, int64_t y_stride) {
  const int64_t m = w.size(0), n = w.size(1);
  GemvProblem<T> problem{
      .rows = rows, .m = m, .n = n, .x_stride = n, .w_stride = w.stride(0), .y_stride = y_stride};
  const RowKernel<T> kernel = row_kernel(problem);
  if (kernel.run == nullptr) return false;
  auto [input, stride] = input_rows(x);
  problem.x_stride = stride;
  if (kernel.pairs && (n % 2 != 0 || problem.x_stride % 2 != 0)) {
    input = in_pairs(input, rows, n);
    problem.x_stride = input.size(1);
  }
  const torch::Tensor offset = bias ? bias->contiguous() : torch::Tensor();
  problem.x = input.const_data_ptr<T>();
  problem.w = w.const_data_ptr<T>();
  if (bias) problem.bias = offset.const_data_ptr<T>();
  problem.y = to;
  const int64_t units = (m + kernel.unit - 1) / kernel.unit;
  at::parallel_for(0, units, kernel.grain / kernel.unit, [&](int64_t begin, int64_t end) {
    kernel.run(problem, begin * kernel.unit, std::min(m, end * kernel.unit));
  });
  return true;
}

/// The same for either dtype, into y [.., m] whose rows lie so far apart.
bool by_kernels(const torch::Tensor& x, const torch::Tensor& w,
                const std::optional<torch::Tensor>& bias, const torch::Tensor& y,
                int64_t y_stride) {
  const int64_t rows = x.numel() / x.size(-1);
  return w.scalar_type() == at::kFloat
             ? by_kernels(x, w, bias, rows, y.mutable_data_ptr<float>(), y_stride)
             : by_kernels(x, w, bias, rows, y.mutable_data_ptr<c10::BFloat16>(), y_stride);
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
  if (x.numel() > 0 && are_fast(x, w, bias)) {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = w.size(0);
    const torch::Tensor y = at::empty(shape, x.options());
    if (by_kernels(x, w, bias, y, w.size(0))) return y;
  }
  return at::linear(x, w, bias);
}

void linear_into(const torch::Tensor& x, const torch::Tensor& w, torch::Tensor y) {
  TORCH_CHECK_VALUE(x.dim() == 2 && w.dim() == 2 && x.size(1) == w.size(1) &&
                        y.sizes() == at::IntArrayRef({x.size(0), w.size(0)}) &&
                        x.scalar_type() == w.scalar_type() && x.scalar_type() == y.scalar_type(),
                    "[linear] expected x [rows, n], w [m, n] and y [rows, m], got ", x.sizes(),
                    ", ", w.sizes(), " and ", y.sizes());
  const bool is_fast = x.numel() > 0 && y.stride(1) == 1 && are_fast(x, w, std::nullopt);
  if (!is_fast || !by_kernels(x, w, std::nullopt, y, y.stride(0))) at::mm_out(y, x, w.t());
}

}  // namespace schmidt::kernels
