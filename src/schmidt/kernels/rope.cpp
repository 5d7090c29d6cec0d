#include "schmidt/kernels/rope.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tokens first .. first + count - 1 of x [.., heads, d], `stride` scalars from token to
// token, into y, packed. direction -1 turns back.
template <typename T>
struct Rotate {
  SCHMIDT_INLINE_LOOP static void run(const T* x, int64_t stride, const float* cos,
                                      const float* sin, float direction, T* y, int64_t first,
                                      int64_t count, int64_t t, int64_t heads, int64_t d) {
    const int64_t half = d / 2;
    for (int64_t token = first; token < first + count; ++token) {
      const float* c = cos + token % t * half;
      const float* s = sin + token % t * half;
      for (int64_t head = 0; head < heads; ++head) {
        const T* in = x + token * stride + head * d;
        T* out = y + (token * heads + head) * d;
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) {
          const float a = widen(in[i]), b = widen(in[i + half]), turn = direction * s[i];
          out[i] = narrow<T>(a * c[i] - b * turn);
          out[i + half] = narrow<T>(b * c[i] + a * turn);
        }
      }
    }
  }
};

template <typename T>
void rotate_one(T* x, const float* cos, const float* sin, int64_t d) {
  constexpr int64_t kFirst = 0, kOne = 1;
  run_fastest<Rotate<T>>(static_cast<const T*>(x), d, cos, sin, 1.0F, x, kFirst, kOne, kOne, kOne,
                         d);
}

torch::Tensor rotated(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                      float direction) {
  const int64_t heads = x.size(-2);
  const int64_t d = x.size(-1);
  torch::Tensor in = x.reshape({-1, heads, d});
  if (in.stride(2) != 1 || in.stride(1) != d) in = in.contiguous();
  torch::Tensor out = at::empty(x.sizes(), x.options());
  with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
    const T* from = in.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, in.size(0), std::max<int64_t>(1, kGrain / (heads * d)),
                     [&](int64_t begin, int64_t end) {
                       run_fastest<Rotate<T>>(from, in.stride(0), cos.const_data_ptr<float>(),
                                              sin.const_data_ptr<float>(), direction, to, begin,
                                              end - begin, cos.size(0), heads, d);
                     });
  });
  return out;
}

// A rotation's gradient is turned back by the same angles.
struct Rope : torch::autograd::Function<Rope> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& cos, const torch::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return rotated(x, cos, sin, 1.0F);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    check_first_derivative("rope");
    const variable_list angles = context->get_saved_variables();
    return {rotated(gradients[0], angles[0], angles[1], -1.0F), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

void rope_head(float* x, const float* cos, const float* sin, int64_t d) {
  rotate_one(x, cos, sin, d);
}
void rope_head(c10::BFloat16* x, const float* cos, const float* sin, int64_t d) {
  rotate_one(x, cos, sin, d);
}

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
  if (!fast_types({&x}) || !fast_path({&cos, &sin}) || cos.scalar_type() != torch::kFloat32 ||
      x.numel() == 0) {
    return rope_reference(x, cos, sin);
  }
  const torch::Tensor c = cos.contiguous();
  const torch::Tensor s = sin.contiguous();
  if (records_gradient({&x})) return Rope::apply(x, c, s);
  return rotated(x, c, s, 1.0F);
}

}  // namespace schmidt::kernels
