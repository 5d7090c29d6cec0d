#include "schmidt/kernels/cached_attention.h"

#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

struct Case {
  torch::ScalarType dtype;
  int64_t heads, kv_heads, d, capacity;
  std::optional<int64_t> window;
  double tolerance;
};

class CachedAttention : public testing::TestWithParam<Case> {};

TEST_P(CachedAttention, KernelAgreesWithReference) {
  const Case c = GetParam();
  const torch::Tensor q = torch::randn({4, c.heads, c.d}).to(c.dtype);
  const torch::Tensor keys = torch::randn({3, c.kv_heads, c.capacity, c.d}).to(c.dtype);
  const torch::Tensor values = torch::randn({3, c.kv_heads, c.capacity, c.d}).to(c.dtype);
  const CachedQueries queries{{0, 2, 2, 1}, {0, c.capacity - 1, 5, c.capacity / 2}, c.window};
  const torch::Tensor y = cached_attention(q, keys, values, queries, 0.3);
  const torch::Tensor truth = cached_attention_reference(q, keys, values, queries, 0.3);
  EXPECT_EQ(y.scalar_type(), c.dtype);
  EXPECT_TRUE(torch::allclose(y, truth, c.tolerance, c.tolerance));
}

INSTANTIATE_TEST_SUITE_P(Shapes, CachedAttention,
                         testing::Values(Case{torch::kFloat32, 9, 3, 64, 300, std::nullopt, 1e-5},
                                         Case{torch::kFloat32, 4, 4, 14, 40, 7, 1e-5},
                                         Case{torch::kFloat32, 8, 1, 3, 9, 1, 1e-5},
                                         Case{torch::kBFloat16, 9, 3, 64, 300, std::nullopt, 1e-2},
                                         Case{torch::kBFloat16, 6, 2, 10, 33, 12, 1e-2}));

TEST(CachedAttention, AWindowOfOneReturnsTheOwnValue) {
  const torch::Tensor keys = torch::randn({1, 1, 6, 4});
  const torch::Tensor values = torch::randn({1, 1, 6, 4});
  const torch::Tensor y =
      cached_attention(torch::randn({1, 2, 4}), keys, values, {{0}, {3}, 1}, 1.0);
  EXPECT_TRUE(torch::allclose(y[0][0], values[0][0][3]));
  EXPECT_TRUE(torch::allclose(y[0][1], values[0][0][3]));
}

TEST(CachedAttention, NeverReadsBeyondTheOwnPosition) {
  torch::Tensor keys = torch::randn({1, 1, 6, 4});
  torch::Tensor values = torch::randn({1, 1, 6, 4});
  const torch::Tensor q = torch::randn({1, 1, 4});
  const torch::Tensor y = cached_attention(q, keys, values, {{0}, {2}, {}}, 1.0);
  keys.narrow(2, 3, 3).fill_(NAN);
  values.narrow(2, 3, 3).fill_(NAN);
  EXPECT_TRUE(torch::equal(y, cached_attention(q, keys, values, {{0}, {2}, {}}, 1.0)));
}

TEST(CachedAttention, SurvivesLargeScores) {
  const torch::Tensor keys = torch::full({1, 1, 5, 4}, 1e4F);
  const torch::Tensor values = torch::randn({1, 1, 5, 4});
  const torch::Tensor y =
      cached_attention(torch::full({1, 1, 4}, 1e4F), keys, values, {{0}, {4}, {}}, 1.0);
  EXPECT_TRUE(torch::allclose(y[0][0], values[0][0].mean(0), 1e-5, 1e-6));
}

TEST(CachedAttention, RejectsWhatDoesNotFit) {
  const torch::Tensor cache = torch::randn({2, 2, 6, 4});
  const torch::Tensor q = torch::randn({1, 4, 4});
  EXPECT_THROW(cached_attention(q, cache, cache, {{2}, {0}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, cache, cache, {{0}, {6}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, cache, cache, {{0}, {0}, 0}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(q, cache, cache, {{}, {}, {}}, 1.0), c10::ValueError);
  EXPECT_THROW(cached_attention(torch::randn({1, 3, 4}), cache, cache, {{0}, {0}, {}}, 1.0),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
