#include "schmidt/model/sampler.h"

#include <cmath>

#include <gtest/gtest.h>

namespace schmidt::model {
namespace {

// Probabilities 0.5, 0.25, 0.15, 0.1 of tokens 2, 0, 3, 1.
torch::Tensor four_tokens() { return torch::tensor({0.25F, 0.1F, 0.5F, 0.15F}).log(); }

std::vector<double> frequencies(const SamplingOptions& options, const torch::Tensor& logits,
                                std::vector<int64_t> context = {}) {
  constexpr int kDraws = 20000;
  Sampler sampler(options);
  std::vector<double> counts(logits.size(0), 0.0);
  for (int i = 0; i < kDraws; ++i) counts[sampler.draw(logits, context)] += 1.0 / kDraws;
  return counts;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  // Five standard deviations of a frequency over 20,000 draws.
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], 5 * std::sqrt(0.25 / 20000)) << i;
    EXPECT_EQ(found[i] == 0.0, expected[i] == 0.0) << i;
  }
}

TEST(Sampler, IsGreedyAtTemperatureZero) {
  Sampler sampler({});
  EXPECT_EQ(sampler.draw(four_tokens(), {}), 2);
  EXPECT_EQ(sampler.draw(torch::tensor({1.0F, 3.0F, 3.0F}), {}), 1);
  EXPECT_EQ(sampler.draw(four_tokens().to(torch::kBFloat16), {}), 2);
}

TEST(Sampler, DrawsFromTheDistribution) {
  expect_near(frequencies({.temperature = 1.0}, four_tokens()), {0.25, 0.1, 0.5, 0.15});
}

TEST(Sampler, TemperatureIsAPowerOfProbabilities) {
  const double total = 0.0625 + 0.01 + 0.25 + 0.0225;
  expect_near(frequencies({.temperature = 0.5}, four_tokens()),
              {0.0625 / total, 0.01 / total, 0.25 / total, 0.0225 / total});
}

TEST(Sampler, TopKKeepsTheLikeliest) {
  expect_near(frequencies({.temperature = 1.0, .top_k = 2}, four_tokens()),
              {1.0 / 3, 0.0, 2.0 / 3, 0.0});
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  expect_near(frequencies({.temperature = 1.0, .top_p = 0.6}, four_tokens()),
              {1.0 / 3, 0.0, 2.0 / 3, 0.0});
  expect_near(frequencies({.temperature = 1.0, .top_p = 1e-9}, four_tokens()), {0, 0, 1, 0});
}

TEST(Sampler, MinPIsRelativeToTheLikeliest) {
  expect_near(frequencies({.temperature = 1.0, .min_p = 0.28}, four_tokens()),
              {0.25 / 0.9, 0.0, 0.5 / 0.9, 0.15 / 0.9});
}

TEST(Sampler, TopPWorksOnWhatTopKLeaves) {
  // After top-k 3 token 2 alone has 0.5 / 0.9 = 0.56 of the mass.
  expect_near(frequencies({.temperature = 1.0, .top_k = 3, .top_p = 0.55}, four_tokens()),
              {0, 0, 1, 0});
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  const torch::Tensor logits = torch::tensor({2.0F, 1.5F, -1.0F, -1.5F});
  Sampler sampler({.repetition_penalty = 2.0});
  const std::vector<int64_t> context = {0, 0, 0};
  EXPECT_EQ(sampler.draw(logits, context), 1);  // 2 / 2 = 1 < 1.5, once for three occurrences
  EXPECT_TRUE(torch::equal(logits, torch::tensor({2.0F, 1.5F, -1.0F, -1.5F})));
  const std::vector<int64_t> all_but_last = {0, 1, 2};
  EXPECT_EQ(sampler.draw(torch::tensor({-9.0F, -9.0F, -1.0F, -1.5F}), all_but_last), 3);
}

TEST(Sampler, EqualSeedsDrawEqualTokens) {
  const torch::Tensor logits = torch::randn({500});
  const auto sequence = [&](uint64_t seed, uint64_t stream) {
    Sampler sampler({.temperature = 1.0, .seed = seed}, stream);
    std::vector<int64_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.draw(logits, {}));
    return ids;
  };
  EXPECT_EQ(sequence(7, 0), sequence(7, 0));
  EXPECT_NE(sequence(7, 0), sequence(8, 0));
  EXPECT_NE(sequence(7, 0), sequence(7, 1));
}

TEST(Sampler, IgnoresMaskedLogits) {
  const float out = -std::numeric_limits<float>::infinity();
  expect_near(frequencies({.temperature = 1.0}, torch::tensor({out, 0.0F, out, 0.0F})),
              {0, 0.5, 0, 0.5});
}

TEST(Sampler, RefusesLogitsThatSayNothing) {
  Sampler sampler({.temperature = 1.0});
  const float out = -std::numeric_limits<float>::infinity();
  EXPECT_THROW(sampler.draw(torch::tensor({1.0F, NAN}), {}), c10::ValueError);
  EXPECT_THROW(sampler.draw(torch::tensor({out, out}), {}), c10::ValueError);
  EXPECT_THROW(sampler.draw(torch::tensor({-out, 0.0F}), {}), c10::ValueError);
  EXPECT_THROW(sampler.draw(torch::ones({2, 3}), {}), c10::ValueError);
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  for (const SamplingOptions& options : std::vector<SamplingOptions>{{.repetition_penalty = 0.0},
                                                                     {.repetition_penalty = 0.009},
                                                                     {.repetition_penalty = 100.1},
                                                                     {.repetition_penalty = NAN},
                                                                     {.temperature = -1.0},
                                                                     {.temperature = NAN},
                                                                     {.top_k = -1},
                                                                     {.top_p = 0.0},
                                                                     {.top_p = 1.5},
                                                                     {.min_p = -0.1},
                                                                     {.min_p = NAN}}) {
    EXPECT_THROW(Sampler{options}, c10::ValueError);
  }
  for (const double penalty : {0.01, 100.0}) {
    EXPECT_NO_THROW(Sampler({.repetition_penalty = penalty}));
  }
}

}  // namespace
}  // namespace schmidt::model
