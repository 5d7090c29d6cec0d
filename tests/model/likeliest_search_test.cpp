#include "schmidt/model/likeliest_search.h"

#include <limits>

#include <gtest/gtest.h>

#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/linear.h"
#include "schmidt/model/dense_projection.h"

namespace schmidt::model {
namespace {

constexpr int64_t kVocab = 16384, kHidden = 288;

class Search : public testing::TestWithParam<torch::ScalarType> {
 protected:
  void SetUp() override {
    if (!kernels::gemv_is_fast()) GTEST_SKIP() << "no vectors here, and so no search";
    torch::manual_seed(3);
  }

  static std::shared_ptr<const LikeliestSearch> search(const torch::Tensor& weight,
                                                       const ModelConfig& config = {}) {
    const std::vector<LayerSpec> layer = {
        {.name = "lm_head", .out_features = weight.size(0), .in_features = weight.size(1)}};
    return LikeliestSearch::make(config,
                                 std::make_shared<DenseProjection>(layer, weight, std::nullopt));
  }

  /// One that has been asked often enough.
  static std::shared_ptr<const LikeliestSearch> ready(const torch::Tensor& weight) {
    auto made = search(weight);
    const torch::Tensor h = torch::ones({1, weight.size(1)}, weight.options());
    for (int64_t i = 1; i < LikeliestSearch::kStatesBefore; ++i) EXPECT_FALSE(made->find(h, {}));
    return made;
  }

  static torch::Tensor random(int64_t rows) { return torch::randn({rows, kHidden}).to(GetParam()); }

  /// Whether no logit is larger than that of `id`, but for the order in which a product sums.
  static testing::AssertionResult is_largest(const torch::Tensor& logits, int64_t id) {
    const torch::Tensor values = logits.to(torch::kFloat32);
    const float largest = values.max().item<float>(), own = values[id].item<float>();
    const float rounding = GetParam() == torch::kFloat32 ? 1e-5F : 1.0F / 128;
    if (own >= largest - rounding * std::abs(largest)) return testing::AssertionSuccess();
    return testing::AssertionFailure() << own << " of " << id << " below " << largest;
  }
};

TEST_P(Search, FindsWhatAllLogitsSay) {
  torch::Tensor weight = random(kVocab);
  weight.narrow(0, 8000, 4000).copy_(weight.narrow(0, 100, 4000));  // equal logits
  weight[5].zero_();
  const auto made = ready(weight);
  for (int64_t round = 0; round < 100; ++round) {
    const int64_t rows = 1 + round % LikeliestSearch::kMostStates;
    torch::Tensor h = random(rows) * std::pow(10.0, round % 5 - 2);
    // As a model's states are: near to one row, and with numbers that stand out.
    h = h + 0.3 * weight.narrow(0, 37 * round, rows);
    h.select(1, round).mul_(20);
    const torch::Tensor logits = kernels::linear(h, weight);
    const auto found = made->find(h, {});
    ASSERT_TRUE(found);
    for (int64_t i = 0; i < rows; ++i) {
      EXPECT_TRUE(is_largest(logits[i], found->at(i))) << round << " " << i;
      torch::Tensor rest = logits[i].clone();
      rest[found->at(i)] = -std::numeric_limits<float>::infinity();
      EXPECT_TRUE(is_largest(rest, made->find(h.narrow(0, i, 1), {found->at(i)})->at(0)));
    }
  }
}

TEST_P(Search, LeavesToAllLogitsWhatItIsNotFor) {
  const torch::Tensor weight = random(kVocab);
  const auto made = ready(weight);
  const torch::Tensor h = random(LikeliestSearch::kMostStates + 1);
  EXPECT_FALSE(made->find(h, {})) << "many states";
  EXPECT_FALSE(made->find(h.narrow(0, 0, 0), {})) << "none";
  EXPECT_FALSE(made->find(h.narrow(0, 0, 1) / 0.0, {})) << "infinity";
  EXPECT_FALSE(made->find(h.narrow(0, 0, 1) * std::nan(""), {})) << "NaN";
  EXPECT_TRUE(made->find(h.narrow(0, 0, 1), {}));
  const auto alike = ready(random(1).expand({kVocab, kHidden}).contiguous());
  EXPECT_FALSE(alike->find(h.narrow(0, 0, 1), {})) << "all tokens may be the likeliest";
}

TEST_P(Search, IsForALargeMatrixWithoutACap) {
  EXPECT_EQ(search(random(100)), nullptr) << "a small one";
  EXPECT_EQ(search(random(kVocab).to(torch::kFloat64)), nullptr);
  EXPECT_EQ(search(random(kVocab), {.logit_softcap = 30.0}), nullptr);
  EXPECT_NE(search(random(kVocab), {.logit_scale = 0.25}), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Search, testing::Values(torch::kFloat32, torch::kBFloat16),
                         [](const auto& info) { return c10::toString(info.param); });

}  // namespace
}  // namespace schmidt::model
