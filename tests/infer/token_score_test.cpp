#include "schmidt/infer/token_score.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace schmidt::infer {
namespace {

TEST(TokenScore, IsTheLogarithmOfTheSoftmax) {
  const torch::Tensor logits = torch::tensor({{0.0F, std::log(3.0F), std::log(4.0F)}});
  const std::vector<TokenScore> scores = score_tokens(logits, {1}, 2);
  ASSERT_EQ(scores.size(), 1);
  EXPECT_NEAR(scores[0].log_p, std::log(3.0 / 8.0), 1e-6);
  ASSERT_EQ(scores[0].likeliest.size(), 2);
  EXPECT_EQ(scores[0].likeliest[0].id, 2);
  EXPECT_NEAR(scores[0].likeliest[0].log_p, std::log(0.5), 1e-6);
  EXPECT_EQ(scores[0].likeliest[1].id, 1);
}

// The harness tells by an exact comparison whether a token is the likeliest.
TEST(TokenScore, ATokenAmongTheLikeliestHasTheSameValueThere) {
  const torch::Tensor logits = torch::randn({40, 999});
  const torch::Tensor best = logits.argmax(-1);
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < 40; ++i) tokens.push_back(best[i].item<int64_t>());
  for (const TokenScore& score : score_tokens(logits, tokens, 1)) {
    EXPECT_EQ(score.log_p, score.likeliest.at(0).log_p);
  }
}

TEST(TokenScore, ProbabilityZeroIsTheLeastValue) {
  const float none = -std::numeric_limits<float>::infinity();
  const auto scores = score_tokens(torch::tensor({{1.0F, none}}), {1}, 5);
  EXPECT_EQ(scores[0].log_p, kLeastLogP);
  ASSERT_EQ(scores[0].likeliest.size(), 2);
  EXPECT_EQ(scores[0].likeliest[1].log_p, kLeastLogP);
}

TEST(TokenScore, RefusesNaNAndSizesThatDoNotFit) {
  EXPECT_THROW(score_tokens(torch::full({1, 3}, std::nan("")), {0}, 1), c10::ValueError);
  EXPECT_THROW(score_tokens(torch::zeros({2, 3}), {0}, 1), c10::ValueError);
  EXPECT_TRUE(score_tokens(torch::zeros({0, 3}), {}, 1).empty());
}

}  // namespace
}  // namespace schmidt::infer
