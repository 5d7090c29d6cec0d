#include "schmidt/kernels/rms_norm.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rsqrt.h>

#include "schmidt/kernels/fast_path.h"

namespace schmidt::kernels {
namespace {

// x, y [rows, d]; weight [d].
template <typename T>
void normalize_rows(const T* x, const T* weight, T* y, int64_t rows, int64_t d, float eps) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / d), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* in = x + row * d;
      T* out = y + row * d;
      float squares = 0.0F;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < d; ++i) {
        squares += static_cast<float>(in[i]) * static_cast<float>(in[i]);
      }
      const float scale = 1.0F / std::sqrt(squares / static_cast<float>(d) + eps);
#pragma omp simd
      for (int64_t i = 0; i < d; ++i) {
        const float unit = static_cast<float>(T(static_cast<float>(in[i]) * scale));
        out[i] = T(unit * static_cast<float>(weight[i]));
      }
    }
  });
}

}  // namespace

torch::Tensor rms_norm_reference(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor unit = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return unit.to(x.scalar_type()) * weight;
}

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  TORCH_CHECK_VALUE(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0),
                    "[rms_norm] expected x [..., d] and weight [d], got ", x.sizes(), " and ",
                    weight.sizes());
  if (!fast_path({&x, &weight})) return rms_norm_reference(x, weight, eps);
  const torch::Tensor in = x.contiguous();
  const torch::Tensor w = weight.contiguous();
  torch::Tensor out = at::empty_like(in);
  const int64_t d = w.size(0);
  const int64_t rows = in.numel() / std::max<int64_t>(d, 1);
  with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
    normalize_rows(in.const_data_ptr<T>(), w.const_data_ptr<T>(), out.mutable_data_ptr<T>(), rows,
                   d, static_cast<float>(eps));
  });
  return out;
}

}  // namespace schmidt::kernels
