#include "schmidt/kernels/quantized_gemv.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/kernels/quantized_decode.h"
#include "schmidt/kernels/quantized_linear.h"

#include "tests/kernels/quantized_weights.h"

namespace schmidt::kernels {
namespace {

class Decode : public testing::TestWithParam<Implementation<DecodeKernels>> {
 protected:
  void SetUp() override {
    if (!supported(GetParam().set)) GTEST_SKIP() << "not on this CPU: " << name_of(GetParam().set);
  }
};

TEST_P(Decode, GivesTheNumbersOfTheFormula) {
  for (const Case& c : cases()) {
    const Made made(c);
    torch::Tensor wide = at::full({c.m + 1, c.n}, 7.0F);
    torch::Tensor narrow = wide.to(torch::kBFloat16);
    const int64_t middle = c.m / 2;
    const auto run = [&](const auto& kernel, auto* to) {
      kernel(made.w, 0, middle, to);
      kernel(made.w, middle, c.m, to + middle * c.n);
    };
    run(GetParam().functions.float32, wide.data_ptr<float>());
    run(GetParam().functions.bfloat16, narrow.data_ptr<c10::BFloat16>());
    EXPECT_TRUE(at::equal(wide.slice(0, 0, c.m), made.dense)) << c.text();
    EXPECT_TRUE(at::equal(narrow.slice(0, 0, c.m), made.dense.to(torch::kBFloat16))) << c.text();
    EXPECT_TRUE(wide[c.m].eq(7.0).all().item<bool>()) << "wrote past the rows";
    EXPECT_TRUE(narrow[c.m].eq(7.0).all().item<bool>()) << "wrote past the rows";
  }
}

INSTANTIATE_TEST_SUITE_P(Quantized, Decode, testing::ValuesIn(decode_implementations()),
                         [](const auto& i) {
                           std::string name(name_of(i.param.set));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

class Int8 : public testing::TestWithParam<Implementation<Int8Kernels>> {
 protected:
  void SetUp() override {
    if (!supported(GetParam().set)) GTEST_SKIP() << "not on this CPU: " << name_of(GetParam().set);
  }
  const Int8Kernels& kernels() const { return GetParam().functions; }
  static const Int8Kernels& reference() { return int8_implementations().front().functions; }

  /// Outputs in two parts, with room behind each row that has to stay as it is.
  template <typename T>
  torch::Tensor run(Int8Kernel<T> kernel, const QuantizedWeight& w, const Int8Rows& x) const {
    torch::Tensor y = at::full({x.rows, w.m + 3}, 7.0F).to(c10::CppTypeToScalarType<T>::value);
    const Outputs<T> to{y.data_ptr<T>(), w.m + 3};
    kernel(w, x, 0, w.m / 3, to);
    kernel(w, x, w.m / 3, w.m, to);
    EXPECT_TRUE(y.slice(1, w.m).eq(7.0).all().template item<bool>()) << "wrote past a row";
    return y.slice(1, 0, w.m);
  }
};

TEST_P(Int8, RoundsRowsAsTheReference) {
  for (const int64_t n : {1, 31, 32, 33, 64, 100, 576}) {
    torch::Tensor values = at::randn({n});
    values[0] = 1e-39;
    values[n / 2] = -30.0;
    if (n == 64) values.zero_();
    if (n == 33) values.mul_(1e-37);
    const AtTheEnd x(values);
    const auto blocks = static_cast<size_t>((n + 31) / 32);
    const auto rounded = [&](const Int8Kernels& by) {
      std::vector<int8_t> codes(blocks * 32);
      std::vector<float> scales(blocks * 8), sums(blocks);
      by.round_row(x.data<float>(), n, codes.data(), scales.data(), sums.data());
      return std::tuple(codes, scales, sums);
    };
    EXPECT_EQ(rounded(kernels()), rounded(reference())) << n;
    const auto [codes, scales, sums] = rounded(kernels());
    for (int64_t j = 0; j < n; ++j) {
      const double scale = scales[j / 32 * 8];
      EXPECT_LE(std::fabs(values[j].item<double>() - scale * codes[j]), 0.50001 * scale);
    }
  }
}

TEST_P(Int8, StaysWithinTheStatedBound) {
  for (const Case& c : cases()) {
    const Made made(c);
    if (!suits_int8(made.w)) continue;
    Int8Layout layout;
    lay_out(made.w, layout);
    const bool gaps = !suits_int8_blocks(made.w);
    const auto blocks = [&](const torch::Tensor& t) {
      const torch::Tensor all = at::zeros({t.size(0), layout.blocks, kInt8Block}, at::kDouble);
      for (int64_t b = 0; b < layout.blocks; ++b) {
        const int64_t group = layout.group_of[b] * c.group, code = layout.code_of[b];
        const int64_t begin = gaps ? std::max(group, code) : code;
        const int64_t end = std::min(gaps ? group + c.group : c.n, code + kInt8Block);
        all.select(1, b).narrow(1, 0, end - begin).copy_(t.slice(1, begin, end).abs());
      }
      return all;
    };
    const torch::Tensor magnitudes = blocks(made.dense).sum(-1).t();
    for (const int64_t rows : {1, 2, 3, 4, 5, 9, 17}) {
      const torch::Tensor values = at::randn({rows, c.n}) * at::rand({1, c.n}).mul(6).exp();
      const AtTheEnd x(values);
      const Int8Rows rounded = int8_rows(kernels(), made.w, x.data<float>(), rows);
      const torch::Tensor y = run(kernels().float32, made.w, rounded).to(at::kDouble);

      // The largest of each block times the magnitudes of W there.
      const torch::Tensor bound = at::matmul(
          std::get<0>(blocks(values).max(-1)) / 254.0 + std::ldexp(1.0, -120), magnitudes);
      // Sums of codes and zero points are rounded apart from each other.
      const torch::Tensor largest =
          at::full_like(made.dense, 1 << c.bits).mul_(made.dense.abs().max());
      const torch::Tensor slack = rounding(values, largest);
      EXPECT_TRUE((y - product(values, made.dense)).abs().le(bound + slack).all().item<bool>())
          << c.text() << ", " << rows << " rows";

      const torch::Tensor theirs = run(reference().float32, made.w, rounded).to(at::kDouble);
      EXPECT_TRUE((y - theirs).abs().le(slack).all().item<bool>()) << c.text();
      const torch::Tensor narrow = run(kernels().bfloat16, made.w, rounded);
      EXPECT_TRUE(at::equal(narrow, y.to(at::kFloat).to(at::kBFloat16))) << c.text();
    }
  }
}

TEST_P(Int8, IsExactWhereRowsAreWholeNumbers) {
  for (const Case& c : cases()) {
    Made made(c);
    if (!suits_int8(made.w)) continue;
    // Codes times 127 and -127 in all places: the largest sums there are.
    const torch::Tensor ones = at::full({c.m, c.n / c.group}, 1.0F);
    const AtTheEnd scales(ones);
    made.w.scales = scales.data<void>();
    made.w.scale_type = torch::kFloat32;
    torch::Tensor dense = at::empty({c.m, c.n});
    decode_rows(made.w, 0, c.m, dense.data_ptr<float>());
    const torch::Tensor x =
        at::randint(0, 2, {3, c.n}).to(torch::kFloat32).mul_(254.0).sub_(127.0).contiguous();
    const Int8Rows rounded = int8_rows(kernels(), made.w, x.const_data_ptr<float>(), 3);
    EXPECT_TRUE(
        at::equal(run(kernels().float32, made.w, rounded).to(at::kDouble), product(x, dense)))
        << c.text();
  }
}

TEST_P(Int8, NaNAndInfinityGiveNaN) {
  const Made made({4, 9, 192, 64, false, torch::kFloat32});
  for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    torch::Tensor x = at::randn({2, 192});
    x[1][100] = value;
    const Int8Rows rounded = int8_rows(kernels(), made.w, x.const_data_ptr<float>(), 2);
    const torch::Tensor y = run(kernels().float32, made.w, rounded);
    EXPECT_TRUE(y[0].isfinite().all().item<bool>());
    EXPECT_TRUE(y[1].isnan().all().item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Quantized, Int8, testing::ValuesIn(int8_implementations()),
                         [](const auto& i) {
                           std::string name(name_of(i.param.set));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

torch::Tensor gemv(const Made& made, const torch::Tensor& x, bool int8) {
  torch::Tensor y = at::empty({x.size(0), made.w.m});
  quantized_gemv(made.w, x.const_data_ptr<float>(), x.size(0), int8,
                 Outputs<float>{y.data_ptr<float>(), made.w.m});
  return y;
}

TEST(QuantizedGemv, ExactIsExactToRounding) {
  for (const Case& c : cases()) {
    const Made made(c);
    for (const int64_t rows : {1, 2, 3, 4, 5, 9, 17}) {
      const torch::Tensor x = at::randn({rows, c.n});
      const torch::Tensor error = (gemv(made, x, false).to(at::kDouble) - product(x, made.dense));
      ASSERT_TRUE(error.abs().le(rounding(x, made.dense)).all().item<bool>())
          << c.text() << ", " << rows << " rows";
    }
  }
}

TEST(QuantizedGemv, GroupsOfLessThanHalfABlockAreExactInInt8Too) {
  const Made made({5, 12, 100, 10, false, torch::kFloat16});
  const torch::Tensor x = at::randn({3, 100});
  EXPECT_TRUE(at::equal(gemv(made, x, true), gemv(made, x, false)));
}

TEST(QuantizedGemv, ThreadsChangeNothing) {
  const int before = at::get_num_threads();
  const Made made({3, 1203, 576, 64, false, torch::kBFloat16});
  const torch::Tensor x = at::randn({5, 576});
  for (const bool int8 : {false, true}) {
    at::set_num_threads(1);
    const torch::Tensor alone = gemv(made, x, int8);
    for (const int threads : {2, 3, 8}) {
      at::set_num_threads(threads);
      // Of a row at the end of a part the sums are in another order.
      EXPECT_LT((gemv(made, x, int8) - alone).abs().max().item<float>(), 1e-5) << threads;
    }
  }
  at::set_num_threads(before);
}

TEST(QuantizedLinear, GivesTheDtypeAndShapeOfItsInput) {
  const Made made({4, 40, 192, 64, false, torch::kBFloat16});
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const torch::Tensor x = at::randn({2, 3, 192}).to(dtype);
    const torch::Tensor expected = product(x.view({6, 192}), made.dense).view({2, 3, 40});
    for (const auto activations : {Activations::kExact, Activations::kInt8}) {
      const torch::Tensor y = quantized_linear(x, made.w, activations);
      EXPECT_EQ(y.scalar_type(), dtype);
      ASSERT_EQ(y.sizes(), expected.sizes());
      EXPECT_LT((y - expected).abs().max().item<double>(),
                0.02 * expected.abs().max().item<double>());
    }
  }
  EXPECT_THROW(quantized_linear(at::randn({2, 64}), made.w, Activations::kExact), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
