#include "schmidt/eval/perplexity.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "schmidt/eval/self_text.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::eval {
namespace {

class PerplexityTest : public ::testing::Test {
 protected:
  static model::Model make(uint64_t seed) {
    const test::TemporaryFolder tmp;
    return model::Model::load(
        io::Checkpoint::open(test::write_model(test::make_tiny_model(2, seed), tmp / "m")));
  }

  // A text of n ids without a pattern.
  static std::vector<int64_t> text(int64_t n) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < n; ++i) ids.push_back((i * i * 31 + 7 * i) % 264);
    return ids;
  }

  model::Model model = make(1);
  model::Model other = make(2);
};

TEST_F(PerplexityTest, IsTheMeanOverTokensTwoToNOfWholeWindows) {
  const auto ids = text(100);  // three windows of 32 and four tokens that are dropped
  const Evaluation result = evaluate_text(model, nullptr, ids, {.context = 32});
  double nll = 0.0;
  for (int64_t w = 0; w < 3; ++w) {
    const torch::Tensor window = torch::tensor(ids).narrow(0, 32 * w, 32);
    const torch::Tensor log_p =
        torch::log_softmax(model.forward(window.unsqueeze(0))[0].to(torch::kFloat64), -1);
    for (int64_t t = 0; t + 1 < 32; ++t)
      nll -= log_p[t][window[t + 1].item<int64_t>()].item<double>();
  }
  EXPECT_EQ(result.model.tokens, 3 * 31);
  EXPECT_NEAR(result.model.nll, nll / (3 * 31), 1e-5);
  EXPECT_NEAR(result.model.perplexity, std::exp(nll / (3 * 31)), 1e-3);
  EXPECT_GT(result.model.nll_stderr, 0.0);
  EXPECT_FALSE(result.divergence.has_value());
}

TEST_F(PerplexityTest, MaxTokensTakesTheFirst) {
  const auto ids = text(100);
  const Evaluation two = evaluate_text(model, nullptr, ids, {.context = 32, .max_tokens = 70});
  const Evaluation same =
      evaluate_text(model, nullptr, {ids.begin(), ids.begin() + 64}, {.context = 32});
  EXPECT_EQ(two.model.tokens, 2 * 31);
  EXPECT_EQ(two.model.nll, same.model.nll);
}

TEST_F(PerplexityTest, DivergenceIsTheReferencesExpectation) {
  const auto ids = text(64);
  const Evaluation result = evaluate_text(other, &model, ids, {.context = 64});
  const torch::Tensor input = torch::tensor(ids).unsqueeze(0);
  const torch::Tensor p = torch::log_softmax(model.forward(input)[0].to(torch::kFloat64), -1);
  const torch::Tensor q = torch::log_softmax(other.forward(input)[0].to(torch::kFloat64), -1);
  const torch::Tensor kl = (p.exp() * (p - q)).sum(-1).narrow(0, 0, 63);
  ASSERT_TRUE(result.divergence.has_value());
  EXPECT_NEAR(result.divergence->mean, kl.mean().item<double>(), 1e-5);
  EXPECT_NEAR(result.divergence->max, kl.max().item<double>(), 1e-4);
  EXPECT_NEAR(result.divergence->median, kl.median().item<double>(), 1e-4);  // 63 is odd
  EXPECT_NEAR(result.divergence->p90, torch::quantile(kl, 0.9).item<double>(), 1e-4);
  const torch::Tensor agree = (p.argmax(-1) == q.argmax(-1)).narrow(0, 0, 63);
  EXPECT_NEAR(result.divergence->top1_agreement, agree.to(torch::kFloat64).mean().item<double>(),
              1e-9);
  EXPECT_NEAR(result.reference->nll, evaluate_text(model, nullptr, ids, {.context = 64}).model.nll,
              1e-6);
}

TEST_F(PerplexityTest, RefusesWhatCannotBeScored) {
  EXPECT_THROW(evaluate_text(model, nullptr, text(10), {.context = 32}), c10::ValueError);
  EXPECT_THROW(evaluate_text(model, nullptr, text(10), {.context = 1}), c10::ValueError);
  EXPECT_THROW(evaluate_text(model, nullptr, text(1000), {.context = 129}), c10::ValueError);
  EXPECT_THROW(evaluate_text(model, nullptr, text(100), {.context = 32, .max_tokens = 20}),
               c10::ValueError);
  EXPECT_THROW(evaluate_text(model, nullptr, {1, 2, 264}, {.context = 2}), c10::ValueError);
}

TEST_F(PerplexityTest, SelfTextHalvesAreReproducibleAndApart) {
  const SelfTextOptions held_out{.tokens = 300, .length = 32, .seed = 4};
  SelfTextOptions calibration = held_out;
  calibration.half = SelfHalf::kCalibration;
  const auto a = sample_self_text(model, held_out);
  EXPECT_EQ(a.size(), 320u);
  EXPECT_EQ(a, sample_self_text(model, held_out));
  const auto b = sample_self_text(model, calibration);
  for (size_t i = 0; i < a.size(); i += 32) {
    for (size_t j = 0; j < b.size(); j += 32) {
      EXPECT_FALSE(std::equal(a.begin() + i, a.begin() + i + 32, b.begin() + j));
    }
  }
}

TEST_F(PerplexityTest, AModelPredictsItsOwnTextAtItsEntropy) {
  // Sampled at temperature 1, the expected NLL is the mean entropy of the predictions.
  const auto ids = sample_self_text(model, {.tokens = 4096, .length = 64, .seed = 1});
  std::vector<int64_t> padding;
  for (int64_t id = 100; id < 264; ++id) padding.push_back(id);
  const auto without =
      sample_self_text(model, {.tokens = 4096, .length = 64, .seed = 1, .never_drawn = padding});
  EXPECT_GE(*std::max_element(ids.begin(), ids.end()), 100);
  EXPECT_LT(*std::max_element(without.begin(), without.end()), 100);
  const Evaluation result = evaluate_text(model, nullptr, ids, {.context = 64});
  double entropy = 0.0;
  const torch::Tensor windows = torch::tensor(ids).view({-1, 64});
  const torch::Tensor log_p = torch::log_softmax(model.forward(windows), -1).narrow(1, 0, 63);
  entropy = -(log_p.exp() * log_p).sum(-1).mean().item<double>();
  EXPECT_NEAR(result.model.nll, entropy, 5 * result.model.nll_stderr + 1e-3);
}

}  // namespace
}  // namespace schmidt::eval
