#include "schmidt/kernels/causal_attention.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace schmidt::kernels {
namespace {

// softmax(q k^T / sqrt(d)) v in float64, spelled out, for all tokens at once.
torch::Tensor truth(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                    const std::vector<TokenSpan>& spans, std::optional<int64_t> window,
                    const Scores& rule = {}) {
  const int64_t n = q.size(0);
  torch::Tensor span = torch::full({n}, -1, torch::kInt64);
  for (size_t i = 0; i < spans.size(); ++i) {
    span.narrow(0, spans[i].begin, spans[i].length).fill_(static_cast<int64_t>(i));
  }
  const torch::Tensor place = torch::arange(n);
  const torch::Tensor distance = place.unsqueeze(1) - place.unsqueeze(0);
  torch::Tensor seen =
      (distance >= 0) & (span.unsqueeze(1) == span.unsqueeze(0)) & (span >= 0).unsqueeze(1);
  if (window) seen = seen & (distance < *window);
  const auto heads = [&](const torch::Tensor& x) {
    return x.to(torch::kFloat64).repeat_interleave(q.size(1) / x.size(1), 1).transpose(0, 1);
  };
  torch::Tensor scores = torch::matmul(heads(q), heads(k).transpose(1, 2)) *
                         rule.scale.value_or(1 / std::sqrt(static_cast<double>(q.size(2))));
  if (rule.softcap) scores = torch::tanh(scores / *rule.softcap) * *rule.softcap;
  const torch::Tensor weights = torch::softmax(scores.masked_fill(~seen, -1e300), -1) * seen;
  return torch::matmul(weights, heads(v)).transpose(0, 1);
}

struct Case {
  const char* name;
  int64_t n, heads, kv_heads, d;
  std::vector<TokenSpan> spans;
  std::optional<int64_t> window;
};

class CausalAttention : public testing::TestWithParam<std::tuple<Case, torch::ScalarType>> {
 protected:
  // q and k in wider rows, as a projection leaves them.
  torch::Tensor random(int64_t heads) const {
    const auto& c = std::get<0>(GetParam());
    return torch::randn({c.n, 2 * heads, c.d}).to(std::get<1>(GetParam())).narrow(1, 0, heads);
  }
  // bfloat16 rounds weights, outputs and the gradients of scores to 8 bits.
  double tolerance() const { return std::get<1>(GetParam()) == torch::kFloat32 ? 1e-5 : 1.5e-2; }
  void expect_close(const torch::Tensor& found, const torch::Tensor& expected,
                    const char* what) const {
    ASSERT_EQ(found.sizes(), expected.sizes()) << what;
    const torch::Tensor difference = found.to(torch::kFloat64) - expected;
    EXPECT_LT(difference.norm().item<double>(), tolerance() * expected.norm().item<double>())
        << what;
    EXPECT_LT(difference.abs().max().item<double>(),
              2 * tolerance() * expected.abs().max().item<double>())
        << what;
  }
};

TEST_P(CausalAttention, AgreesWithSoftmaxInFloat64) {
  const at::NoGradGuard no_grad;
  const auto& c = std::get<0>(GetParam());
  const torch::Tensor q = random(c.heads), k = random(c.kv_heads), v = random(c.kv_heads);
  const torch::Tensor out = causal_attention(q, k, v, c.spans, c.window);
  EXPECT_EQ(out.scalar_type(), q.scalar_type());
  expect_close(out, truth(q, k, v, c.spans, c.window), "out");
  expect_close(causal_attention_reference(q, k, v, c.spans, c.window),
               truth(q, k, v, c.spans, c.window), "reference");
}

TEST_P(CausalAttention, HasTheGradientsOfSoftmaxInFloat64) {
  const auto& c = std::get<0>(GetParam());
  const std::vector<torch::Tensor> inputs = {random(c.heads).requires_grad_(),
                                             random(c.kv_heads).requires_grad_(),
                                             random(c.kv_heads).requires_grad_()};
  std::vector<torch::Tensor> exact;
  for (const torch::Tensor& x : inputs) {
    exact.push_back(x.detach().to(torch::kFloat64).requires_grad_());
  }
  const torch::Tensor direction = torch::randn({c.n, c.heads, c.d}).to(inputs[0].scalar_type());
  const auto found = torch::autograd::grad(
      {causal_attention(inputs[0], inputs[1], inputs[2], c.spans, c.window)}, inputs, {direction});
  const auto expected =
      torch::autograd::grad({truth(exact[0], exact[1], exact[2], c.spans, c.window)}, exact,
                            {direction.to(torch::kFloat64)});
  for (size_t i = 0; i < 3; ++i) {
    expect_close(found[i], expected[i], std::array{"q", "k", "v"}[i]);
  }
}

TEST_P(CausalAttention, ScalesAndCapsScoresAndTheirGradients) {
  const auto& c = std::get<0>(GetParam());
  for (const Scores& rule : {Scores{.scale = 0.4}, Scores{.scale = 0.4, .softcap = 1.5}}) {
    std::vector<torch::Tensor> inputs, exact;
    for (const int64_t heads : {c.heads, c.kv_heads, c.kv_heads}) {
      inputs.push_back(random(heads).requires_grad_());
      exact.push_back(inputs.back().detach().to(torch::kFloat64).requires_grad_());
    }
    const torch::Tensor out =
        causal_attention(inputs[0], inputs[1], inputs[2], c.spans, c.window, rule);
    const torch::Tensor expected = truth(exact[0], exact[1], exact[2], c.spans, c.window, rule);
    expect_close(out.detach(), expected.detach(), "out");
    const torch::Tensor direction = torch::randn_like(out.detach());
    const auto found = torch::autograd::grad({out}, inputs, {direction});
    const auto wanted = torch::autograd::grad({expected}, exact, {direction.to(torch::kFloat64)});
    for (size_t i = 0; i < 3; ++i) {
      expect_close(found[i], wanted[i], std::array{"q", "k", "v"}[i]);
    }
  }
}

TEST_P(CausalAttention, NoGradientLeavesARun) {
  const auto& c = std::get<0>(GetParam());
  const torch::Tensor q = random(c.heads).requires_grad_(), k = random(c.kv_heads).requires_grad_(),
                      v = random(c.kv_heads).requires_grad_();
  const TokenSpan span = c.spans.back();
  const torch::Tensor out = causal_attention(q, k, v, c.spans, c.window);
  for (const torch::Tensor& gradient :
       torch::autograd::grad({out.narrow(0, span.begin, span.length).square().sum()}, {q, k, v})) {
    const torch::Tensor size = gradient.to(torch::kFloat32).abs().sum({1, 2});
    EXPECT_EQ(size.narrow(0, 0, span.begin).sum().item<float>(), 0.0F);
    EXPECT_GT(size[span.begin].item<float>() + size[span.begin + span.length - 1].item<float>(),
              0.0F);
    const int64_t end = span.begin + span.length;
    EXPECT_EQ(size.narrow(0, end, c.n - end).sum().item<float>(), 0.0F);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CausalAttention,
    testing::Combine(
        testing::Values(Case{"rows", 300, 6, 2, 64, {{0, 150}, {150, 150}}, {}},
                        Case{"packed", 260, 3, 3, 32, {{0, 1}, {1, 70}, {75, 65}, {140, 100}}, {}},
                        Case{"window", 200, 4, 1, 16, {{0, 130}, {131, 64}}, 40},
                        Case{"narrow", 90, 2, 2, 48, {{3, 80}}, 2},
                        Case{"wide_head", 70, 2, 1, 128, {{0, 70}}, 100},
                        Case{"odd_head", 50, 2, 1, 6, {{0, 20}, {20, 30}}, 7}),
        testing::Values(torch::kFloat32, torch::kBFloat16)),
    [](const auto& which) {
      return std::string(std::get<0>(which.param).name) + toString(std::get<1>(which.param));
    });

TEST(CausalAttentionOfNothing, IsZero) {
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const torch::Tensor x = torch::randn({5, 2, 16}).to(dtype);
    EXPECT_EQ(causal_attention(x, x, x, {}, std::nullopt).abs().max().item<float>(), 0.0F);
    const torch::Tensor none = x.narrow(0, 0, 0);
    EXPECT_EQ(causal_attention(none, none, none, {}, std::nullopt).sizes(), none.sizes());
  }
}

// Scores far beyond what exp can take, and far apart.
TEST(CausalAttentionExtremes, LargeScoresStayFinite) {
  const torch::Tensor q = (torch::randn({130, 1, 32}) * 60).to(torch::kBFloat16);
  const torch::Tensor v = torch::randn({130, 1, 32}).to(torch::kBFloat16);
  const std::vector<TokenSpan> spans = {{0, 130}};
  const torch::Tensor out = causal_attention(q, q, v, spans, std::nullopt);
  const torch::Tensor difference = out.to(torch::kFloat64) - truth(q, q, v, spans, std::nullopt);
  EXPECT_LT(difference.abs().max().item<double>(), 3e-2);
}

TEST(CausalAttentionChecks, RefuseWhatDoesNotFit) {
  const torch::Tensor x = torch::randn({6, 2, 16});
  EXPECT_THROW(causal_attention(x, x.narrow(0, 0, 5), x, {{0, 6}}, {}), c10::ValueError);
  EXPECT_THROW(causal_attention(x[0], x[0], x[0], {}, {}), c10::ValueError);
  EXPECT_THROW(causal_attention(x, x, x, {{0, 7}}, {}), c10::ValueError);
  EXPECT_THROW(causal_attention(x, x, x, {{3, 3}, {0, 3}}, {}), c10::ValueError);
  EXPECT_THROW(causal_attention(x, x, x, {{0, 6}}, 0), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
