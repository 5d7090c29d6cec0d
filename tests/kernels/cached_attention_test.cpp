#include "schmidt/kernels/cached_attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/kernels/cache_rows.h"

namespace schmidt::kernels {
namespace {

struct Case {
  torch::ScalarType dtype, cache;
  int64_t heads, kv_heads, d, length, block_tokens;
  std::optional<int64_t> window;
  double tolerance;
};

class CachedAttention : public testing::TestWithParam<Case> {};

TEST_P(CachedAttention, KernelAgreesWithReference) {
  const Case c = GetParam();
  const torch::Tensor q = torch::randn({4, c.heads, c.d}).to(c.dtype);
  std::vector<CacheRow> rows;
  for (int64_t i = 0; i < 3; ++i) {
    const torch::Tensor keys = torch::randn({c.length, c.kv_heads, c.d}).to(c.dtype);
    rows.push_back(test::row_of(keys, torch::randn_like(keys), c.block_tokens, c.cache));
  }
  const CachedQueries queries{{0, 2, 2, 1}, {0, c.length - 1, 5, c.length / 2}, c.window};
  const torch::Tensor y = cached_attention(q, rows, 0, queries, 0.3);
  const torch::Tensor truth = cached_attention_reference(q, rows, 0, queries, 0.3);
  EXPECT_EQ(y.scalar_type(), c.dtype);
  EXPECT_TRUE(torch::allclose(y, truth, c.tolerance, c.tolerance));
  const torch::Tensor capped = cached_attention(q, rows, 0, queries, 0.3, 1.5);
  EXPECT_TRUE(torch::allclose(capped, cached_attention_reference(q, rows, 0, queries, 0.3, 1.5),
                              c.tolerance, c.tolerance));
  const bool alone = c.window == 1;  // one key has all the weight, whatever its score
  EXPECT_EQ((capped - y).abs().max().item<double>() > 0.0, !alone);
}

TEST(CachedAttention, SoftcapIsATanhOfTheScores) {
  // One head of one number, keys 2 and -1: scores 2 and -1 become 2 tanh(1) and 2 tanh(-1 / 2).
  const torch::Tensor keys = torch::tensor({2.0F, -1.0F}).view({2, 1, 1});
  const torch::Tensor values = torch::tensor({1.0F, 0.0F}).view({2, 1, 1});
  const torch::Tensor y =
      cached_attention(torch::ones({1, 1, 1}), {test::row_of(keys, values, 2, torch::kFloat32)}, 0,
                       {{0}, {1}, {}}, 1.0, 2.0);
  const double difference = 2 * std::tanh(1.0) - 2 * std::tanh(-0.5);
  EXPECT_NEAR(y.item<double>(), 1 / (1 + std::exp(-difference)), 1e-6);
}

constexpr auto kFloat = torch::kFloat32, kHalf = torch::kBFloat16, kCodes = torch::kChar;

INSTANTIATE_TEST_SUITE_P(
    Shapes, CachedAttention,
    testing::Values(Case{kFloat, kFloat, 9, 3, 64, 300, 64, std::nullopt, 1e-5},
                    Case{kFloat, kFloat, 4, 4, 14, 40, 7, 7, 1e-5},
                    Case{kFloat, kFloat, 8, 1, 3, 9, 1, 1, 1e-5},
                    Case{kFloat, kFloat, 2, 2, 200, 33, 16, std::nullopt, 1e-5},
                    Case{kHalf, kHalf, 9, 3, 64, 300, 64, std::nullopt, 1e-2},
                    Case{kHalf, kHalf, 6, 2, 10, 33, 8, 12, 1e-2},
                    Case{kFloat, kHalf, 9, 3, 64, 130, 32, std::nullopt, 1e-5},
                    Case{kFloat, kHalf, 5, 5, 21, 40, 6, 17, 1e-5},
                    Case{kFloat, kCodes, 9, 3, 64, 300, 64, std::nullopt, 1e-5},
                    Case{kFloat, kCodes, 4, 4, 14, 40, 7, 7, 1e-5},
                    Case{kFloat, kCodes, 8, 1, 3, 9, 1, 1, 1e-5},
                    Case{kFloat, kCodes, 6, 3, 128, 77, 50, 30, 1e-5},
                    Case{kHalf, kCodes, 9, 3, 64, 300, 64, std::nullopt, 1e-2},
                    Case{kHalf, kCodes, 6, 2, 10, 33, 8, 12, 1e-2}));

// With numbers of unit size, 8 bits change what attention gives by little.
TEST(CachedAttention, CodesAreNearTheNumbers) {
  const torch::Tensor keys = torch::randn({200, 2, 64}), values = torch::randn({200, 2, 64});
  const torch::Tensor q = torch::randn({1, 4, 64});
  const auto attend = [&](torch::ScalarType dtype) {
    return cached_attention(q, {test::row_of(keys, values, 64, dtype)}, 0, {{0}, {199}, {}}, 0.125);
  };
  const torch::Tensor truth = attend(kFloat);
  EXPECT_LT((attend(kCodes) - truth).norm().item<float>(), 0.02 * truth.norm().item<float>());
}

TEST(CachedAttention, AWindowOfOneReturnsTheOwnValue) {
  const torch::Tensor keys = torch::randn({6, 1, 4}), values = torch::randn({6, 1, 4});
  const torch::Tensor y = cached_attention(
      torch::randn({1, 2, 4}), {test::row_of(keys, values, 3, kFloat)}, 0, {{0}, {3}, 1}, 1.0);
  EXPECT_TRUE(torch::allclose(y[0][0], values[3][0]));
  EXPECT_TRUE(torch::allclose(y[0][1], values[3][0]));
}

TEST(CachedAttention, NeverReadsBeyondTheOwnPosition) {
  const torch::Tensor keys = torch::randn({6, 1, 4}), values = torch::randn({6, 1, 4});
  const torch::Tensor q = torch::randn({1, 1, 4});
  const auto attend = [&] {
    return cached_attention(q, {test::row_of(keys, values, 4, kFloat)}, 0, {{0}, {2}, {}}, 1.0);
  };
  const torch::Tensor y = attend();
  keys.narrow(0, 3, 3).fill_(NAN);
  values.narrow(0, 3, 3).fill_(NAN);
  EXPECT_TRUE(torch::equal(y, attend()));
}

TEST(CachedAttention, SurvivesLargeScores) {
  const torch::Tensor keys = torch::full({5, 1, 4}, 1e4F), values = torch::randn({5, 1, 4});
  const torch::Tensor y =
      cached_attention(torch::full({1, 1, 4}, 1e4F), {test::row_of(keys, values, 2, kFloat)}, 0,
                       {{0}, {4}, {}}, 1.0);
  EXPECT_TRUE(torch::allclose(y[0][0], values.mean(0)[0], 1e-5, 1e-6));
}

TEST(CachedAttention, RejectsWhatDoesNotFit) {
  const torch::Tensor x = torch::randn({6, 2, 4});
  const std::vector<CacheRow> rows = {
      test::row_of(x, x, 3, kFloat), test::row_of(x, x, 3, kFloat), {}};
  const torch::Tensor q = torch::randn({1, 4, 4});
  EXPECT_THROW(cached_attention(q, rows, 0, {{3}, {0}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, rows, 0, {{2}, {0}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, rows, 0, {{0}, {6}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, rows, 1, {{0}, {0}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, rows, 0, {{0}, {0}, 0}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, rows, 0, {{}, {}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(torch::randn({1, 3, 4}), rows, 0, {{0}, {0}, {}}, 1.0),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
