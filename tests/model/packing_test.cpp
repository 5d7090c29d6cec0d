// Several examples in one row, each as if it were alone.

#include "schmidt/model/packing.h"

#include <gtest/gtest.h>

#include "schmidt/model/attention.h"
#include "schmidt/model/model.h"

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

using kernels::TokenSpan;

torch::Tensor rows(const std::vector<std::vector<int64_t>>& values) {
  std::vector<torch::Tensor> all;
  for (const auto& row : values) all.push_back(torch::tensor(row, torch::kInt64));
  return torch::stack(all);
}

TEST(PackingOf, ListsRunsAndLeavesPaddingOut) {
  const Packing packing = packing_of(rows({{0, 0, 1, 1, 1, -1}, {-1, 4, 4, -1, 2, -1}}));
  EXPECT_EQ(packing.spans, (std::vector<TokenSpan>{{0, 2}, {2, 3}, {7, 2}, {10, 1}}));
}

TEST(PackingOf, WholeRowsAreNoPacking) {
  EXPECT_TRUE(packing_of(rows({{0, 0, 0}, {7, 7, 7}})).spans.empty());
  EXPECT_FALSE(packing_of(rows({{0, 0, 0}, {7, 7, -1}})).spans.empty());
  // The same number in two rows is two examples.
  EXPECT_EQ(packing_of(rows({{1, 0}, {0, 0}})).spans.size(), 3);
}

TEST(PackingOf, RefusesWhatIsNoPacking) {
  EXPECT_THROW(packing_of(rows({{0, 1, 0}})), c10::ValueError);
  EXPECT_THROW(packing_of(rows({{0, -2, 0}})), c10::ValueError);
  EXPECT_THROW(packing_of(torch::zeros({4}, torch::kInt64)), c10::ValueError);
  EXPECT_THROW(packing_of(torch::zeros({1, 4})), c10::ValueError);
}

TEST(PackedAttention, RefusesRunsOfALargerBatch) {
  const torch::Tensor x = torch::randn({1, 4, 2, 8});
  EXPECT_THROW(causal_attention(x, x, x, std::nullopt, {{{0, 5}}}), c10::ValueError);
  EXPECT_THROW(causal_attention(x, x, x, std::nullopt, {{{2, 2}, {1, 2}}}), c10::ValueError);
}

Model load(std::optional<int64_t> window) {
  test::TinyModel tiny = test::make_tiny_model(3);
  if (window) {
    tiny.config["model_type"] = "mistral";
    tiny.config["architectures"] = {"MistralForCausalLM"};
    tiny.config["sliding_window"] = *window;
  }
  return Model::load(tiny.config, Weights(tiny.tensors, "tiny"));
}

class PackedRows : public testing::TestWithParam<std::optional<int64_t>> {
 protected:
  Model model_ = load(GetParam());
  torch::Tensor ids_ = torch::randint(264, {2, 20}, torch::kInt64);
  // Runs longer and shorter than the windows, padding in front, between and behind.
  torch::Tensor segments_ =
      rows({{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2},
            {-1, 3, -1, -1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4, 4, 4, -1, -1, -1}});
  std::vector<TokenSpan> spans_ = packing_of(segments_).spans;

  torch::Tensor of_span(const torch::Tensor& tokens, const TokenSpan& span) const {
    return tokens.flatten(0, 1).narrow(0, span.begin, span.length);
  }
};

TEST_P(PackedRows, HiddenStatesAreThoseOfEachExampleAlone) {
  const torch::Tensor packed = model_.hidden(ids_, segments_);
  EXPECT_TRUE(packed.isfinite().all().item<bool>());
  ASSERT_EQ(spans_.size(), 6);
  for (const TokenSpan& span : spans_) {
    const torch::Tensor alone = model_.hidden(of_span(ids_, span).unsqueeze(0))[0];
    const torch::Tensor difference = of_span(packed, span) - alone;
    EXPECT_LT(difference.abs().max().item<float>(), 1e-4) << "span from " << span.begin;
  }
}

TEST_P(PackedRows, NoGradientLeavesAnExample) {
  const torch::Tensor h = model_.embed(ids_).detach().requires_grad_();
  const RopeTable rope = model_.rope(ids_.size(1));
  const Packing packing = packing_of(segments_);
  torch::Tensor out = h;
  for (int64_t i = 0; i < model_.num_blocks(); ++i) {
    out = model_.block(i).forward(out, rope, packing);
  }
  const TokenSpan& span = spans_[1];
  of_span(out, span).square().sum().backward();
  const torch::Tensor size = h.grad().abs().amax(-1).flatten();
  for (int64_t token = 0; token < size.numel(); ++token) {
    const bool inside = token >= span.begin && token < span.begin + span.length;
    EXPECT_EQ(size[token].item<float>() > 0.0F, inside) << "token " << token;
  }
}

TEST_P(PackedRows, GradientsAreTheSumOfThoseOfTheExamples) {
  const std::vector<NamedTensor> parameters = model_.parameters();
  for (const NamedTensor& p : parameters) p.tensor.set_requires_grad(true);
  const auto take = [&] {
    std::vector<torch::Tensor> gradients;
    for (const NamedTensor& p : parameters) {
      gradients.push_back(p.tensor.grad().clone());
      p.tensor.mutable_grad().reset();
    }
    return gradients;
  };
  const torch::Tensor direction = torch::randn({2, 20, 24});
  const torch::Tensor attends = segments_.ge(0).unsqueeze(-1);
  (model_.hidden(ids_, segments_) * direction * attends).sum().backward();
  const std::vector<torch::Tensor> packed = take();
  for (const TokenSpan& span : spans_) {
    const torch::Tensor alone = model_.hidden(of_span(ids_, span).unsqueeze(0))[0];
    (alone * of_span(direction, span)).sum().backward();
  }
  const std::vector<torch::Tensor> summed = take();
  for (size_t i = 0; i < packed.size(); ++i) {
    const double scale = summed[i].abs().max().item<double>();
    EXPECT_GT(scale, 0.0) << parameters[i].name;
    EXPECT_LT((packed[i] - summed[i]).abs().max().item<double>(), 1e-4 * scale)
        << parameters[i].name;
  }
}

TEST_P(PackedRows, RefusesSegmentsOfAnotherShape) {
  EXPECT_THROW(model_.hidden(ids_, segments_.narrow(1, 0, 19)), c10::ValueError);
}

INSTANTIATE_TEST_SUITE_P(Windows, PackedRows,
                         testing::Values(std::optional<int64_t>(), std::optional<int64_t>(4),
                                         std::optional<int64_t>(50)),
                         [](const auto& window) {
                           return window.param ? "Window" + std::to_string(*window.param)
                                               : std::string("Unlimited");
                         });

}  // namespace
}  // namespace schmidt::model
