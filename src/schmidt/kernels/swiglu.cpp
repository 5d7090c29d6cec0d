#include "schmidt/kernels/swiglu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

SCHMIDT_INLINE_LOOP float sigmoid(float z) { return 1.0F / (1.0F + fast_exp(-z)); }

// x [rows, 2 m] -> y [rows, m].
template <typename T>
struct Gate {
  SCHMIDT_INLINE_LOOP static void run(const T* x, T* y, int64_t rows, int64_t m) {
    for (int64_t row = 0; row < rows; ++row, x += 2 * m, y += m) {
#pragma omp simd
      for (int64_t i = 0; i < m; ++i) {
        const float gate = widen(x[i]);
        y[i] = narrow<T>(gate * sigmoid(gate) * widen(x[m + i]));
      }
    }
  }
};

template <typename T>
struct Differentiate {
  SCHMIDT_INLINE_LOOP static void run(const T* x, const T* dy, T* dx, int64_t rows, int64_t m) {
    for (int64_t row = 0; row < rows; ++row, x += 2 * m, dx += 2 * m, dy += m) {
#pragma omp simd
      for (int64_t i = 0; i < m; ++i) {
        const float gate = widen(x[i]), up = widen(x[m + i]), g = widen(dy[i]);
        const float open = sigmoid(gate);
        dx[i] = narrow<T>(g * up * open * (1.0F + gate * (1.0F - open)));
        dx[m + i] = narrow<T>(g * gate * open);
      }
    }
  }
};

int64_t grain(int64_t m) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(2 * m, 1)); }

// x contiguous [..., 2 m].
torch::Tensor gated(const torch::Tensor& x) {
  std::vector<int64_t> sizes = x.sizes().vec();
  const int64_t m = sizes.back() /= 2;
  torch::Tensor y = at::empty(sizes, x.options());
  with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
    const T* from = x.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    at::parallel_for(0, m == 0 ? 0 : y.numel() / m, grain(m), [&](int64_t begin, int64_t end) {
      run_fastest<Gate<T>>(from + begin * 2 * m, to + begin * m, end - begin, m);
    });
  });
  return y;
}

struct Swiglu : torch::autograd::Function<Swiglu> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x) {
    context->save_for_backward({x});
    return gated(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    check_first_derivative("swiglu");
    const torch::Tensor x = context->get_saved_variables()[0];
    const torch::Tensor dy = gradients[0].contiguous();
    const int64_t m = dy.size(-1);
    torch::Tensor dx = at::empty_like(x);
    with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
      const T* from = x.const_data_ptr<T>();
      const T* gradient = dy.const_data_ptr<T>();
      T* to = dx.mutable_data_ptr<T>();
      at::parallel_for(0, m == 0 ? 0 : dy.numel() / m, grain(m), [&](int64_t begin, int64_t end) {
        run_fastest<Differentiate<T>>(from + begin * 2 * m, gradient + begin * m,
                                      to + begin * 2 * m, end - begin, m);
      });
    });
    return {dx};
  }
};

}  // namespace

void swiglu_rows(const float* gate_up, float* y, int64_t rows, int64_t m) {
  run_fastest<Gate<float>>(gate_up, y, rows, m);
}
void swiglu_rows(const c10::BFloat16* gate_up, c10::BFloat16* y, int64_t rows, int64_t m) {
  run_fastest<Gate<c10::BFloat16>>(gate_up, y, rows, m);
}

torch::Tensor swiglu_reference(const torch::Tensor& gate_up) {
  const int64_t m = gate_up.size(-1) / 2;
  return at::silu(gate_up.narrow(-1, 0, m)) * gate_up.narrow(-1, m, m);
}

torch::Tensor swiglu(const torch::Tensor& gate_up) {
  TORCH_CHECK_VALUE(gate_up.dim() >= 1 && gate_up.size(-1) % 2 == 0,
                    "[swiglu] expected [..., 2 m], got ", gate_up.sizes());
  if (!fast_types({&gate_up})) return swiglu_reference(gate_up);
  if (records_gradient({&gate_up})) return Swiglu::apply(gate_up.contiguous());
  return gated(gate_up.contiguous());
}

torch::Tensor geglu(const torch::Tensor& gate_up) {
  TORCH_CHECK_VALUE(gate_up.dim() >= 1 && gate_up.size(-1) % 2 == 0,
                    "[geglu] expected [..., 2 m], got ", gate_up.sizes());
  const int64_t m = gate_up.size(-1) / 2;
  return at::gelu(gate_up.narrow(-1, 0, m), "tanh") * gate_up.narrow(-1, m, m);
}

}  // namespace schmidt::kernels
