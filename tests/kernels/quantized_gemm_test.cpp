#include "schmidt/kernels/quantized_gemm.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "schmidt/kernels/decoded_gemm.h"
#include "schmidt/kernels/panel_gemm.h"
#include "schmidt/kernels/quantized_decode.h"
#include "schmidt/kernels/quantized_linear.h"

#include "tests/kernels/quantized_weights.h"

namespace schmidt::kernels {
namespace {

class CodesOfPanels : public testing::TestWithParam<Implementation<DecodeKernels>> {};

TEST_P(CodesOfPanels, AreThoseThatWerePacked) {
  if (!supported(GetParam().set)) GTEST_SKIP() << "not on this CPU: " << name_of(GetParam().set);
  for (Case c : cases()) {
    c.m += 40;
    const Made made(c);
    Int8Layout layout;
    lay_out(made.w, layout);
    const int64_t size = panel_columns(layout) * kPanelRows;
    std::vector<uint8_t> panel(size + 1, 0xee), plain(c.n);
    for (const auto& [first, count] :
         {std::pair<int64_t, int64_t>{0, 32}, {c.m - 1, 1}, {c.m - 19, 19}}) {
      GetParam().functions.panel_codes(made.w, layout, first, count, panel.data());
      for (int64_t o = 0; o < count; ++o) {
        quant::unpack_codes(made.w.words + (first + o) * made.w.row_words(), c.n, c.bits,
                            plain.data());
        for (int64_t j = 0; j < panel_columns(layout); ++j) {
          const int64_t b = j / kInt8Block, code = layout.code_of[b] + j % kInt8Block;
          const bool is_padding = b > 0 && layout.code_of[b] == layout.code_of[b - 1];
          if (is_padding || code >= c.n || layout.group_of[b] != code / c.group) continue;
          ASSERT_EQ(panel[(j / 4 * kPanelRows + o) * 4 + j % 4], plain[code]) << c.text();
        }
      }
    }
    EXPECT_EQ(panel.back(), 0xee) << "wrote past the panel";
  }
}

std::string name(InstructionSet set) {
  std::string name(name_of(set));
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Quantized, CodesOfPanels, testing::ValuesIn(decode_implementations()),
                         [](const auto& i) { return name(i.param.set); });

class Panels : public testing::TestWithParam<Implementation<PanelKernels>> {
 protected:
  void SetUp() override {
    if (!supported(GetParam().set)) GTEST_SKIP() << "not on this CPU: " << name_of(GetParam().set);
  }
  const PanelKernels& kernels() const { return GetParam().functions; }

  static Int8Rows rounded(const Made& made, const torch::Tensor& x) {
    return int8_rows(int8_implementations().front().functions, made.w, x.const_data_ptr<float>(),
                     x.size(0));
  }

  /// Outputs with room behind each row that has to stay as it is.
  template <typename T>
  static torch::Tensor run(PanelKernel<T> kernel, const QuantizedWeight& w, const Int8Rows& x) {
    torch::Tensor y = at::full({x.rows, w.m + 3}, 7.0F).to(c10::CppTypeToScalarType<T>::value);
    quantized_gemm(kernel, w, x, Outputs<T>{y.data_ptr<T>(), w.m + 3});
    EXPECT_TRUE(y.slice(1, w.m).eq(7.0).all().template item<bool>()) << "wrote past a row";
    return y.slice(1, 0, w.m);
  }
};

/// Those of all widths and groups, with heights around those of one and two panels.
std::vector<Case> tall_cases() {
  std::vector<Case> all = cases();
  constexpr int64_t kHeights[] = {1, 31, 32, 33, 63, 64, 65, 100};
  for (size_t i = 0; i < all.size(); ++i) all[i].m = kHeights[i % std::size(kHeights)];
  return all;
}

TEST_P(Panels, GiveWhatFewRowsGive) {
  for (const Case& c : tall_cases()) {
    const Made made(c);
    if (!suits_int8(made.w)) continue;
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 17}) {
      const torch::Tensor values = at::randn({rows, c.n});
      const Int8Rows x = rounded(made, values);
      const torch::Tensor y = run(kernels().float32, made.w, x);
      torch::Tensor theirs = at::empty_like(y);
      int8_implementations().front().functions.float32(made.w, x, 0, c.m,
                                                       {theirs.data_ptr<float>(), c.m});
      // Sums of codes and zero points are rounded apart from each other.
      const torch::Tensor largest =
          at::full_like(made.dense, 1 << c.bits).mul_(made.dense.abs().max());
      EXPECT_TRUE(
          (y - theirs).to(at::kDouble).abs().le(rounding(values, largest)).all().item<bool>())
          << c.text() << ", " << rows << " rows";
      EXPECT_TRUE(at::equal(run(kernels().bfloat16, made.w, x), y.to(at::kBFloat16))) << c.text();
    }
  }
}

TEST_P(Panels, AreExactWhereRowsAreWholeNumbers) {
  for (const Case& c : tall_cases()) {
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
        at::randint(0, 2, {9, c.n}).to(torch::kFloat32).mul_(254.0).sub_(127.0).contiguous();
    EXPECT_TRUE(at::equal(run(kernels().float32, made.w, rounded(made, x)).to(at::kDouble),
                          product(x, dense)))
        << c.text();
  }
}

TEST_P(Panels, NaNAndInfinityGiveNaN) {
  const Made made({4, 40, 192, 64, false, torch::kFloat32});
  for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    torch::Tensor x = at::randn({8, 192});
    x[6][100] = value;
    const Int8Rows rows = rounded(made, x);
    for (const torch::Tensor& y :
         {run(kernels().float32, made.w, rows), run(kernels().bfloat16, made.w, rows)}) {
      EXPECT_TRUE(y.slice(0, 0, 6).isfinite().all().item<bool>());
      EXPECT_TRUE(y[6].isnan().all().item<bool>());
      EXPECT_TRUE(y[7].isfinite().all().item<bool>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Quantized, Panels, testing::ValuesIn(panel_implementations()),
                         [](const auto& i) { return name(i.param.set); });

TEST(QuantizedGemm, ThreadsChangeNothing) {
  const int before = at::get_num_threads();
  const Made made({3, 203, 576, 64, false, torch::kBFloat16});
  const torch::Tensor x = at::randn({100, 576});
  const auto product_by = [&](int threads) {
    at::set_num_threads(threads);
    torch::Tensor y = at::empty({100, 203});
    quantized_gemm(made.w, x.const_data_ptr<float>(), 100,
                   Outputs<float>{y.data_ptr<float>(), 203});
    return y;
  };
  const torch::Tensor alone = product_by(1);
  for (const int threads : {2, 3, 8}) EXPECT_TRUE(at::equal(product_by(threads), alone)) << threads;
  at::set_num_threads(before);
}

TEST(QuantizedGemm, ServesManyRowsUnlessTheyHaveToBeExact) {
  const Made made({4, 40, 192, 64, false, torch::kBFloat16});
  const torch::Tensor many = at::randn({100, 192});
  EXPECT_FALSE(suits_quantized_linear(many, made.w, Activations::kExact));
  EXPECT_EQ(suits_quantized_linear(many, made.w, Activations::kInt8), quantized_gemm_is_fast());
  const torch::Tensor expected = product(many, made.dense);
  const torch::Tensor y = quantized_linear(many, made.w, Activations::kInt8);
  EXPECT_LT((y - expected).abs().max().item<double>(), 0.02 * expected.abs().max().item<double>());
}

TEST(DecodedGemm, IsTheProductWithTheRoundedWeight) {
  const auto& products = panel_gemm_implementations<c10::BFloat16>();
  if (products.empty() || !supported(products.front().set)) {
    GTEST_SKIP() << "no products of bfloat16 on this CPU";
  }
  for (Case c : cases()) {
    if (c.n % 2 != 0) continue;
    for (const int64_t m : {c.m, c.m + 40, c.m + 130}) {
      c.m = m;
      const Made made(c);
      const torch::Tensor x = at::randn({70, c.n}).to(torch::kBFloat16);
      const torch::Tensor y = at::full({70, m}, 7.0F).to(torch::kBFloat16);
      decoded_gemm(made.w, x.const_data_ptr<c10::BFloat16>(), 70,
                   y.mutable_data_ptr<c10::BFloat16>());
      const torch::Tensor expected =
          product(x.to(torch::kFloat32), made.dense.to(torch::kBFloat16));
      const double size = expected.abs().max().item<double>();
      EXPECT_LT((y - expected).abs().max().item<double>(), 5e-3 * size) << c.text();
    }
  }
}

}  // namespace
}  // namespace schmidt::kernels
