#include "schmidt/kernels/nf4_linear.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

// W [m, n] of random numbers in NF4, with magnitudes in 8 bits or in float32.
struct Made {
  Made(int64_t m, int64_t n, int64_t block, bool nested)
      : codes(quant::nf4_bytes(m * n)), absmax(quant::blocks_of(m * n, block)) {
    const torch::Tensor values = at::randn({m * n}) * at::randn({m * n}).exp();
    quant::encode_nf4(values.const_data_ptr<float>(), m * n, block, codes.data(), absmax.data());
    w = {codes.data(), {.absmax = absmax.data()}, block, m, n};
    if (!nested) return;
    magnitudes.resize(absmax.size());
    largest.resize(quant::blocks_of(static_cast<int64_t>(absmax.size()), kNested));
    const float offset = absmax.front();
    for (float& a : absmax) a -= offset;
    quant::encode_dynamic(absmax.data(), static_cast<int64_t>(absmax.size()), kNested,
                          magnitudes.data(), largest.data());
    w.scales = {.codes = magnitudes.data(),
                .map = quant::dynamic_map().data(),
                .nested = largest.data(),
                .nested_block = kNested,
                .offset = offset};
  }

  static constexpr int64_t kNested = 8;
  std::vector<uint8_t> codes, magnitudes;
  std::vector<float> absmax, largest;
  Nf4Weight w;
};

struct Sizes {
  int64_t m, n, block;
};

// Odd rows, rows that end within a block, blocks that no vector fills, rows as models have them.
const std::vector<Sizes> kSizes = {
    {1, 1, 64},     {3, 7, 64}, {5, 63, 64}, {4, 65, 64}, {7, 96, 64}, {2, 200, 64},  {9, 576, 64},
    {33, 192, 128}, {5, 50, 5}, {6, 36, 12}, {5, 64, 32}, {5, 48, 16}, {600, 576, 64}};

class DecodesNf4 : public testing::TestWithParam<Implementation<Nf4Kernels>> {};

TEST_P(DecodesNf4, ToTheBitsOfTheReferenceAndNoFurther) {
  if (!supported(GetParam().set)) GTEST_SKIP() << "not on this CPU: " << name_of(GetParam().set);
  for (const auto& [m, n, block] : kSizes) {
    for (const bool nested : {false, true}) {
      const Made made(m, n, block, nested);
      for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{
               {0, m * n}, {m * n / 2, m * n}, {(m / 2) * n, (m / 2 + 1) * n}}) {
        std::vector<float> expected(end - begin + 1, 7.0F), found = expected;
        quant::decode_nf4(made.w.codes, made.w.scales, block, begin, end, expected.data());
        GetParam().functions.decode(made.w, begin, end, found.data());
        ASSERT_EQ(std::memcmp(found.data(), expected.data(), expected.size() * sizeof(float)), 0)
            << fmt::format("{} x {} in blocks of {}, {} to {}", m, n, block, begin, end);
        std::vector<c10::BFloat16> rounded(expected.begin(), expected.end()), narrow = rounded;
        std::fill(narrow.begin(), narrow.end() - 1, c10::BFloat16(3.0F));
        GetParam().functions.decode_bfloat16(made.w, begin, end, narrow.data());
        ASSERT_EQ(std::memcmp(narrow.data(), rounded.data(), rounded.size() * 2), 0)
            << fmt::format("{} x {} in blocks of {}, {} to {}", m, n, block, begin, end);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Nf4, DecodesNf4, testing::ValuesIn(nf4_implementations()),
                         [](const auto& i) { return std::string(name_of(i.param.set)); });

TEST(Nf4Linear, IsTheSumInFloat64OnAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  for (const auto& [m, n, block] : kSizes) {
    for (const int64_t rows : {1, 2, 3, 4, 5, 16}) {
      const Made made(m, n, block, rows % 2 == 0);
      const torch::Tensor x = at::randn({n, rows}).t();  // not as it lies in memory
      for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
        const torch::Tensor in = x.to(dtype), wide = in.to(torch::kFloat32).contiguous();
        at::set_num_threads(1);
        const torch::Tensor y = nf4_linear(in, made.w);
        at::set_num_threads(3);
        EXPECT_TRUE(torch::equal(nf4_linear(in, made.w), y));
        ASSERT_EQ(y.sizes(), (at::IntArrayRef{rows, m}));
        ASSERT_EQ(y.scalar_type(), dtype);
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t i = 0; i < m; ++i) {
            const float* of_row = wide.const_data_ptr<float>() + row * n;
            const double expected =
                quant::dot_nf4(made.w.codes, made.w.scales, block, i * n, (i + 1) * n, of_row);
            double size = 0;  // of the sum's terms
            std::vector<float> numbers(n);
            quant::decode_nf4(made.w.codes, made.w.scales, block, i * n, (i + 1) * n,
                              numbers.data());
            for (int64_t j = 0; j < n; ++j) size += std::fabs(double{numbers[j]} * of_row[j]);
            const double rounding = dtype == torch::kBFloat16 ? std::fabs(expected) / 256 : 0.0;
            ASSERT_NEAR(y[row][i].item<double>(), expected, 1e-6 * size + rounding)
                << fmt::format("{} x {}, row {} of {}, output {}", m, n, row, rows, i);
          }
        }
      }
    }
  }
  at::set_num_threads(threads);
}

TEST(Nf4Linear, ManyRowsMeetWhatTheDtypeKeepsOfNumbers) {
  for (const auto& [m, n, block] :
       std::vector<Sizes>{{600, 576, 64}, {130, 96, 64}, {65, 192, 128}}) {
    const Made made(m, n, block, true);
    torch::Tensor w = at::empty({m, n});
    quant::decode_nf4(made.w.codes, made.w.scales, block, 0, m * n, w.data_ptr<float>());
    for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
      for (const int64_t rows : {17, 100}) {
        const torch::Tensor x = at::randn({n, rows}).t().to(dtype);
        if (!suits_nf4_linear(x, made.w)) continue;
        const torch::Tensor expected =
            at::matmul(x.to(at::kDouble), w.to(dtype).to(at::kDouble).t());
        const torch::Tensor error = nf4_linear(x, made.w).to(at::kDouble) - expected;
        EXPECT_LE(error.abs().max().item<double>(),
                  (dtype == torch::kFloat32 ? 1e-5 : 4e-3) * expected.abs().max().item<double>())
            << fmt::format("{} x {}, {} rows, {}", m, n, rows, c10::toString(dtype));
      }
    }
  }
}

TEST(Nf4Linear, LeavesGradientsAndManyRowsToOthers) {
  const Made made(8, 64, 64, false);
  EXPECT_EQ(suits_nf4_linear(at::randn({2, 64}), made.w), supported(InstructionSet::kAvx2));
  EXPECT_FALSE(suits_nf4_linear(at::randn({2, 64}).requires_grad_(), made.w));
  EXPECT_FALSE(suits_nf4_linear(at::randn({100, 64}), made.w));
  EXPECT_FALSE(suits_nf4_linear(at::randn({2, 64}).to(torch::kFloat64), made.w));
  EXPECT_THROW(nf4_linear(at::randn({2, 63}), made.w), c10::ValueError);
  EXPECT_EQ(nf4_linear(at::empty({0, 64}), made.w).sizes(), (at::IntArrayRef{0, 8}));
  EXPECT_EQ(nf4_linear(at::randn({1, 3, 64}), made.w).sizes(), (at::IntArrayRef{1, 3, 8}));
}

}  // namespace
}  // namespace schmidt::kernels
