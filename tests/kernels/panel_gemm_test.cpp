#include "schmidt/kernels/panel_gemm.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/kernels/at_the_end.h"

namespace schmidt::kernels {
namespace {

using c10::BFloat16;

constexpr at::ScalarType kFloat = at::kFloat, kBfloat16 = at::kBFloat16;

/// Every instruction set with every dtype that it has products of.
struct Product {
  InstructionSet set;
  at::ScalarType dtype;
};

std::vector<Product> products() {
  std::vector<Product> all;
  for (const auto& [set, _] : panel_gemm_implementations<float>()) all.push_back({set, kFloat});
  for (const auto& [set, _] : panel_gemm_implementations<BFloat16>()) {
    all.push_back({set, kBfloat16});
  }
  return all;
}

template <typename T>
PanelGemm<T> implementation(InstructionSet set) {
  for (const auto& [of, functions] : panel_gemm_implementations<T>()) {
    if (of == set) return functions;
  }
  return nullptr;
}

class PanelProducts : public testing::TestWithParam<Product> {
 protected:
  void SetUp() override {
    if (!supported(GetParam().set)) GTEST_SKIP() << "not on this CPU: " << name_of(GetParam().set);
  }

  /// x W^T + bias.
  static torch::Tensor product(const torch::Tensor& x, const torch::Tensor& w,
                               const torch::Tensor& bias) {
    return GetParam().dtype == kFloat ? product_of<float>(x, w, bias)
                                      : product_of<BFloat16>(x, w, bias);
  }

  /// With room behind each row that has to stay as it is.
  template <typename T>
  static torch::Tensor product_of(const torch::Tensor& x, const torch::Tensor& w,
                                  const torch::Tensor& bias) {
    const int64_t rows = x.size(0), m = w.size(0), n = w.size(1);
    const int64_t stride = std::is_same_v<T, BFloat16> ? n + n % 2 : n;
    const torch::Tensor padded = at::zeros({rows, stride}, x.options());
    padded.narrow(1, 0, n).copy_(x);
    const AtTheEnd input(padded), weight(w), offset(bias.defined() ? bias : x);
    torch::Tensor y = at::full({rows, m + 3}, 7.0F).to(GetParam().dtype);
    const GemvProblem<T> problem{.x = input.data<T>(),
                                 .w = weight.data<T>(),
                                 .bias = bias.defined() ? offset.data<T>() : nullptr,
                                 .y = y.data_ptr<T>(),
                                 .rows = rows,
                                 .m = m,
                                 .n = n,
                                 .x_stride = stride,
                                 .w_stride = n,
                                 .y_stride = m + 3};
    const PanelGemm<T> multiply = implementation<T>(GetParam().set);
    const int64_t unit = 16, units = (m + unit - 1) / unit;
    at::parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
      multiply(problem, begin * unit, std::min(m, end * unit));
    });
    EXPECT_TRUE(y.slice(1, m).eq(7.0).all().item<bool>()) << "wrote past a row";
    return y.slice(1, 0, m);
  }

  static torch::Tensor numbers(at::IntArrayRef sizes) {
    return at::randn(sizes).to(GetParam().dtype);
  }
};

TEST_P(PanelProducts, IsTheExactProductRounded) {
  for (const int64_t m : {1, 15, 16, 63, 64, 65, 150}) {
    for (const int64_t n : {1, 2, 7, 30, 31, 32, 33, 34, 143, 576}) {
      for (const int64_t rows : {1, 5, 6, 7, 48, 49, 100}) {
        const torch::Tensor x = numbers({rows, n}), w = numbers({m, n}), bias = numbers({m});
        const auto wide = [](const torch::Tensor& t) { return t.to(at::kDouble); };
        for (const torch::Tensor& b : {torch::Tensor(), bias}) {
          torch::Tensor exact = at::matmul(wide(x), wide(w).t());
          torch::Tensor sizes = at::matmul(wide(x).abs(), wide(w).abs().t());
          if (b.defined()) exact += wide(b), sizes += wide(b).abs();
          // Half a unit in the last place, and what n additions in float32 lose.
          const torch::Tensor bound =
              std::ldexp(1.0, GetParam().dtype == kFloat ? -24 : -8) * exact.abs() +
              std::ldexp(static_cast<double>(n), -23) * sizes;
          EXPECT_TRUE((wide(product(x, w, b)) - exact).abs().le(bound).all().item<bool>())
              << rows << " rows, w " << m << " x " << n;
        }
      }
    }
  }
}

TEST_P(PanelProducts, NaNAndInfinityStayInTheirRow) {
  const torch::Tensor w = numbers({70, 64});
  for (const double value : {std::nan(""), HUGE_VAL}) {
    torch::Tensor x = numbers({20, 64});
    x[7][33] = value;
    const torch::Tensor finite = product(x, w, {}).isfinite().all(1);
    EXPECT_FALSE(finite[7].item<bool>());
    EXPECT_EQ(finite.sum().item<int64_t>(), 19);
  }
}

TEST_P(PanelProducts, ThreadsAndOtherRowsChangeNothing) {
  const int before = at::get_num_threads();
  const torch::Tensor x = numbers({100, 192}), w = numbers({333, 192});
  at::set_num_threads(1);
  const torch::Tensor alone = product(x, w, {});
  EXPECT_TRUE(at::equal(product(x.slice(0, 90).contiguous(), w, {}), alone.slice(0, 90)));
  for (const int threads : {2, 3, 8}) {
    at::set_num_threads(threads);
    EXPECT_TRUE(at::equal(product(x, w, {}), alone)) << threads;
  }
  at::set_num_threads(before);
}

INSTANTIATE_TEST_SUITE_P(Gemm, PanelProducts, testing::ValuesIn(products()));
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PanelProducts);  // other architectures

}  // namespace
}  // namespace schmidt::kernels
