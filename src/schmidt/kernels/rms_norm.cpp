#include "schmidt/kernels/rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// 1 / sqrt(mean(x^2) + eps) of one row.
template <typename T>
SCHMIDT_INLINE_LOOP float scale_of(const T* x, int64_t d, float eps) {
  float squares = 0.0F;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < d; ++i) squares += widen(x[i]) * widen(x[i]);
  return 1.0F / std::sqrt(squares / static_cast<float>(d) + eps);
}

// x, y [rows, d]; weight [d].
template <typename T>
struct Normalize {
  SCHMIDT_INLINE_LOOP static void run(const T* x, const T* weight, T* y, int64_t rows, int64_t d,
                                      float eps) {
    for (int64_t row = 0; row < rows; ++row, x += d, y += d) {
      const float scale = scale_of(x, d, eps);
#pragma omp simd
      for (int64_t i = 0; i < d; ++i) {
        const float unit = widen(narrow<T>(widen(x[i]) * scale));
        y[i] = narrow<T>(unit * widen(weight[i]));
      }
    }
  }
};

// With u = x s the normalized row and g = dy weight: dx = s (g - u mean(g u)); adds
// dy u to weight_grad [d].
template <typename T>
struct Differentiate {
  SCHMIDT_INLINE_LOOP static void run(const T* x, const T* weight, const T* dy, T* dx,
                                      float* weight_grad, int64_t rows, int64_t d, float eps) {
    for (int64_t row = 0; row < rows; ++row, x += d, dy += d, dx += d) {
      const float scale = scale_of(x, d, eps);
      float along = 0.0F;
#pragma omp simd reduction(+ : along)
      for (int64_t i = 0; i < d; ++i) along += widen(dy[i]) * widen(weight[i]) * widen(x[i]);
      const float back = along * scale * scale / static_cast<float>(d);
#pragma omp simd
      for (int64_t i = 0; i < d; ++i) {
        const float g = widen(dy[i]) * widen(weight[i]);
        dx[i] = narrow<T>(scale * (g - widen(x[i]) * back));
        weight_grad[i] += widen(dy[i]) * (widen(x[i]) * scale);
      }
    }
  }
};

// Rows whose share of the weight's gradient is summed first: the same shares, and so the
// same result, on any number of threads.
constexpr int64_t kRowsOfShare = 128;

int64_t rows_of(const torch::Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

torch::Tensor normalize(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  torch::Tensor y = at::empty_like(x);
  const int64_t d = weight.size(0), rows = rows_of(x);
  with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
    const T* from = x.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(d, 1)),
                     [&](int64_t begin, int64_t end) {
                       run_fastest<Normalize<T>>(from + begin * d, weight.const_data_ptr<T>(),
                                                 to + begin * d, end - begin, d,
                                                 static_cast<float>(eps));
                     });
  });
  return y;
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight, double eps) {
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    return normalize(x, weight, eps);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    check_first_derivative("rms_norm");
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor &x = saved[0], &weight = saved[1];
    const torch::Tensor dy = gradients[0].contiguous();
    const auto eps = static_cast<float>(context->saved_data["eps"].toDouble());
    const int64_t d = weight.size(0), rows = rows_of(x);
    const int64_t shares = (rows + kRowsOfShare - 1) / kRowsOfShare;
    torch::Tensor dx = at::empty_like(x);
    torch::Tensor sums = at::zeros({shares, d}, torch::kFloat32);
    with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, shares, 1, [&](int64_t begin, int64_t end) {
        for (int64_t share = begin; share < end; ++share) {
          const int64_t row = share * kRowsOfShare, offset = row * d;
          run_fastest<Differentiate<T>>(x.const_data_ptr<T>() + offset, weight.const_data_ptr<T>(),
                                        dy.const_data_ptr<T>() + offset,
                                        dx.mutable_data_ptr<T>() + offset,
                                        sums.mutable_data_ptr<float>() + share * d,
                                        std::min(kRowsOfShare, rows - row), d, eps);
        }
      });
    });
    return {dx, sums.sum(0).to(weight.scalar_type()), torch::Tensor()};
  }
};

}  // namespace

void rms_norm_rows(const float* x, const float* weight, float* y, int64_t rows, int64_t d,
                   float eps) {
  run_fastest<Normalize<float>>(x, weight, y, rows, d, eps);
}
void rms_norm_rows(const c10::BFloat16* x, const c10::BFloat16* weight, c10::BFloat16* y,
                   int64_t rows, int64_t d, float eps) {
  run_fastest<Normalize<c10::BFloat16>>(x, weight, y, rows, d, eps);
}

torch::Tensor rms_norm_reference(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor unit = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return unit.to(x.scalar_type()) * weight;
}

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  TORCH_CHECK_VALUE(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0),
                    "[rms_norm] expected x [..., d] and weight [d], got ", x.sizes(), " and ",
                    weight.sizes());
  if (!fast_types({&x, &weight})) return rms_norm_reference(x, weight, eps);
  if (records_gradient({&x, &weight})) {
    return RmsNorm::apply(x.contiguous(), weight.contiguous(), eps);
  }
  return normalize(x.contiguous(), weight.contiguous(), eps);
}

}  // namespace schmidt::kernels
