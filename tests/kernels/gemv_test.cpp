#include "schmidt/kernels/gemv.h"

#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

/// A problem with strides wider than its rows: what lies between must not be read
/// into a sum (it is NaN in x and w) nor written (checked in y).
template <typename T>
struct Padded {
  torch::Tensor x, w, bias, y;
  int64_t rows, m, n;

  Padded(int64_t rows_, int64_t m_, int64_t n_) : rows(rows_), m(m_), n(n_) {
    const auto dtype = c10::CppTypeToScalarType<T>::value;
    auto padded = [&](int64_t height, int64_t width) {
      torch::Tensor t = at::full({height, width + 3}, NAN);
      t.slice(1, 0, width).copy_(at::randn({height, width}));
      return t.to(dtype);
    };
    x = padded(rows, n);
    w = padded(m, n);
    bias = at::randn({m}).to(dtype);
    y = at::full({rows, m + 3}, 7.0).to(dtype);
  }

  torch::Tensor run(GemvKernel<T> kernel, bool with_bias) {
    torch::Tensor out = y.clone();
    const GemvProblem<T> problem{x.const_data_ptr<T>(),
                                 w.const_data_ptr<T>(),
                                 with_bias ? bias.const_data_ptr<T>() : nullptr,
                                 out.mutable_data_ptr<T>(),
                                 rows,
                                 m,
                                 n,
                                 n + 3,
                                 n + 3,
                                 m + 3};
    const int64_t middle = m / 3;  // a split in any place gives the same outputs
    kernel(problem, 0, middle);
    kernel(problem, middle, m);
    return out;
  }
};

/// A sum of n products in float32, in whatever order, is off by at most n 2^-24 times
/// the sum of their magnitudes (Higham 2002, Accuracy and Stability of Numerical
/// Algorithms, section 3.1); `output_rounding` is what storing y may add, relative.
template <typename T>
void expect_exact_to_rounding(GemvKernel<T> kernel, double output_rounding) {
  for (int64_t rows : {1, 2, 3, 4, 5, 7, 8, 16}) {
    for (int64_t n : {1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 100, 129}) {
      for (int64_t m : {1, 4, 6, 13}) {
        Padded<T> problem(rows, m, n);
        const torch::Tensor x = problem.x.slice(1, 0, n).to(at::kDouble);
        const torch::Tensor w = problem.w.slice(1, 0, n).to(at::kDouble);
        for (bool with_bias : {false, true}) {
          const torch::Tensor bias = problem.bias.to(at::kDouble) * (with_bias ? 1 : 0);
          const torch::Tensor expected = at::linear(x, w, bias);
          const torch::Tensor magnitude = at::linear(x.abs(), w.abs(), bias.abs());
          const torch::Tensor bound = std::ldexp(static_cast<double>(n) + 2, -24) * magnitude +
                                      output_rounding * expected.abs();
          const torch::Tensor y = problem.run(kernel, with_bias);
          const torch::Tensor error = (y.slice(1, 0, m).to(at::kDouble) - expected).abs();
          ASSERT_TRUE(error.le(bound).all().template item<bool>())
              << rows << " rows, w " << m << " x " << n;
          ASSERT_TRUE(y.slice(1, m).eq(7.0).all().template item<bool>()) << "wrote past a row";
        }
      }
    }
  }
}

class Variants : public testing::TestWithParam<Implementation<GemvKernels>> {
 protected:
  void SetUp() override {
    if (!supported(GetParam().set)) GTEST_SKIP() << "not on this CPU: " << name_of(GetParam().set);
  }
};

TEST_P(Variants, Float32ExactToRounding) {
  expect_exact_to_rounding(GetParam().functions.float32, 0);
}
TEST_P(Variants, BFloat16ExactToRounding) {
  expect_exact_to_rounding(GetParam().functions.bfloat16, std::ldexp(1.1, -8));
}

TEST_P(Variants, NaNAndInfinityPassThrough) {
  torch::Tensor x = at::randn({1, 37}), w = at::randn({5, 37}), y = at::empty({1, 5});
  w[1][36] = NAN;
  w[2][0] = INFINITY;
  GetParam().functions.float32(
      {x.data_ptr<float>(), w.data_ptr<float>(), nullptr, y.data_ptr<float>(), 1, 5, 37, 37, 37, 5},
      0, 5);
  EXPECT_TRUE(y[0][1].isnan().item<bool>());
  EXPECT_TRUE(y[0][2].isinf().item<bool>());
  EXPECT_TRUE(y[0][3].isfinite().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Gemv, Variants, testing::ValuesIn(gemv_implementations()),
                         [](const auto& i) {
                           std::string name(name_of(i.param.set));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace schmidt::kernels
