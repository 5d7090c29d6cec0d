#include "schmidt/kernels/rope.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "schmidt/kernels/fast_path.h"

namespace schmidt::kernels {
namespace {

// x [tokens, heads, d] with `stride` scalars from token to token; y the same, packed.
template <typename T>
void rotate(const T* x, int64_t stride, const float* cos, const float* sin, T* y, int64_t tokens,
            int64_t t, int64_t heads, int64_t d) {
  const int64_t half = d / 2;
  const int64_t grain = std::max<int64_t>(1, kGrain / (heads * d));
  at::parallel_for(0, tokens, grain, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const float* c = cos + token % t * half;
      const float* s = sin + token % t * half;
      for (int64_t head = 0; head < heads; ++head) {
        const T* in = x + token * stride + head * d;
        T* out = y + (token * heads + head) * d;
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) {
          const float a = static_cast<float>(in[i]);
          const float b = static_cast<float>(in[i + half]);
          out[i] = T(a * c[i] - b * s[i]);
          out[i + half] = T(b * c[i] + a * s[i]);
        }
      }
    }
  });
}

}  // namespace

torch::Tensor rope_reference(const torch::Tensor& x, const torch::Tensor& cos,
                             const torch::Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor a = wide.narrow(-1, 0, half);
  const torch::Tensor b = wide.narrow(-1, half, half);
  const torch::Tensor c = cos.unsqueeze(-2);  // [t, 1, d / 2]
  const torch::Tensor s = sin.unsqueeze(-2);
  return at::cat({a * c - b * s, b * c + a * s}, -1).to(x.scalar_type());
}

torch::Tensor rope(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin) {
  TORCH_CHECK_VALUE(x.dim() >= 3 && cos.dim() == 2 && cos.sizes() == sin.sizes() &&
                        x.size(-1) == 2 * cos.size(1) && x.size(-3) == cos.size(0),
                    "[rope] expected x [..., t, heads, d], cos and sin [t, d / 2], got ", x.sizes(),
                    ", ", cos.sizes(), " and ", sin.sizes());
  if (!fast_path({&x}) || !fast_path({&cos, &sin}) || cos.scalar_type() != torch::kFloat32 ||
      x.numel() == 0) {
    return rope_reference(x, cos, sin);
  }
  const int64_t heads = x.size(-2);
  const int64_t d = x.size(-1);
  torch::Tensor in = x.reshape({-1, heads, d});
  if (in.stride(2) != 1 || in.stride(1) != d) in = in.contiguous();
  torch::Tensor out = at::empty(x.sizes(), x.options());
  const torch::Tensor c = cos.contiguous();
  const torch::Tensor s = sin.contiguous();
  with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
    rotate(in.const_data_ptr<T>(), in.stride(0), c.const_data_ptr<float>(),
           s.const_data_ptr<float>(), out.mutable_data_ptr<T>(), in.size(0), c.size(0), heads, d);
  });
  return out;
}

}  // namespace schmidt::kernels
