#include "schmidt/heal/loss.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/model/model.h"

#include "tests/support/tiny_model.h"

namespace schmidt::heal {
namespace {

/// A student and a teacher, with final hidden states of each at n positions.
struct Case {
  model::Model student;
  model::Model teacher;
  torch::Tensor hidden;  // [n, 24]
  torch::Tensor teacher_hidden;
  torch::Tensor targets;  // [n]
};

model::Model tiny(uint64_t seed, bool tied) {
  test::TinyModel made = test::make_tiny_model(1, seed);
  if (!tied) {
    made.config["tie_word_embeddings"] = false;
    made.tensors["lm_head.weight"] = torch::randn({264, 24});
  }
  return model::Model::load(made.config, model::Weights(made.tensors, "tiny"));
}

Case make_case(int64_t n, bool tied = true) {
  return {tiny(1, tied), tiny(2, true), torch::randn({n, 24}), torch::randn({n, 24}),
          torch::randint(264, {n}, torch::kInt64)};
}

torch::Tensor weight_of(const model::Model& model) { return model.output_parameters()[0].tensor; }

/// The same loss by LibTorch's own functions, differentiable as a whole.
torch::Tensor plain_loss(const Case& c, const torch::Tensor& hidden, const LossWeights& weights) {
  const torch::Tensor logits = torch::matmul(hidden, weight_of(c.student).t());
  const torch::Tensor log_q =
      torch::log_softmax(torch::matmul(c.teacher_hidden, weight_of(c.teacher).t()), -1);
  namespace F = torch::nn::functional;
  const torch::Tensor ce =
      F::cross_entropy(logits, c.targets, F::CrossEntropyFuncOptions().reduction(torch::kSum));
  const torch::Tensor kl = F::kl_div(torch::log_softmax(logits, -1), log_q,
                                     F::KLDivFuncOptions().reduction(torch::kSum).log_target(true));
  return weights.cross_entropy * ce + weights.kl * kl;
}

void expect_close(const torch::Tensor& a, const torch::Tensor& b) {
  EXPECT_TRUE(torch::allclose(a, b, 1e-4, 1e-5)) << (a - b).abs().max();
}

TEST(HeadLoss, EqualsTheLossOfLogitsAsAWholeAndItsGradients) {
  for (const bool tied : {true, false}) {
    const Case c = make_case(40, tied);
    const torch::Tensor weight = weight_of(c.student).set_requires_grad(true);
    const LossWeights weights{0.3, 0.7};
    const torch::Tensor h = c.hidden.clone().requires_grad_();
    const Teacher teacher{&c.teacher, c.teacher_hidden, std::nullopt};
    const HeadLoss loss = head_loss(c.student, h, c.targets, teacher, weights, 0.25);
    (2.0 * loss.loss).backward();
    const torch::Tensor of_weight = weight.grad().clone();
    weight.mutable_grad().reset();

    const torch::Tensor g = c.hidden.clone().requires_grad_();
    const torch::Tensor plain = plain_loss(c, g, weights);
    (2.0 * 0.25 * plain).backward();
    expect_close(loss.loss, 0.25 * plain);
    EXPECT_NEAR(0.3 * loss.cross_entropy + 0.7 * loss.kl, plain.item<double>(), 1e-3);
    expect_close(h.grad(), g.grad());
    expect_close(of_weight, weight.grad());
  }
}

/// Of gradients by bfloat16 and by float32: the difference's norm over the latter's.
double relative(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a.to(torch::kFloat32) - b).norm() / b.norm()).item<double>();
}

TEST(HeadLoss, InBfloat16LeavesOutTokensThatHardlyMove) {
  for (const double scaling : {1.0, 0.5}) {
    test::TinyModel made = test::make_tiny_model(1, 1);
    made.config["tie_word_embeddings"] = false;
    made.tensors["lm_head.weight"] = torch::randn({264, 24}).to(torch::kBFloat16).to(torch::kFloat);
    made.config["model_type"] = "granite";
    made.config["logits_scaling"] = scaling;
    const auto load = [&](torch::ScalarType dtype) {
      model::LoadOptions options;
      options.dtype = dtype;
      return model::Model::load(made.config, model::Weights(made.tensors, "tiny", options));
    };
    // Sharp ones: most tokens have a probability below 2^-12.
    const torch::Tensor hidden = (3 * torch::randn({40, 24})).to(torch::kBFloat16);
    const torch::Tensor targets = torch::randint(264, {40}, torch::kInt64);
    const auto gradients = [&](torch::ScalarType dtype) {
      const model::Model model = load(dtype);
      const torch::Tensor weight = weight_of(model).set_requires_grad(true);
      const torch::Tensor h = hidden.to(dtype).detach().requires_grad_();
      head_loss(model, h, targets, {}, {1.0, 0.0}, 0.5).loss.backward();
      return std::pair(h.grad(), weight.grad());
    };
    const auto [h, w] = gradients(torch::kBFloat16);
    const auto [exact_h, exact_w] = gradients(torch::kFloat32);
    EXPECT_LT(relative(h, exact_h), 0.03) << scaling;
    EXPECT_LT(relative(w, exact_w), 0.03) << scaling;
    EXPECT_GT((w.abs().sum(1) == 0).sum().item<int64_t>(), 0) << "tokens that move nowhere";
  }
}

TEST(HeadLoss, WithoutATeacherIsCrossEntropy) {
  const Case c = make_case(10);
  const HeadLoss loss = head_loss(c.student, c.hidden, c.targets, {}, {1.0, 0.0}, 1.0);
  expect_close(loss.loss, plain_loss(c, c.hidden, {1.0, 0.0}));
  EXPECT_EQ(loss.kl, 0.0);
  EXPECT_THROW(head_loss(c.student, c.hidden, c.targets, {}, {0.0, 1.0}, 1.0), c10::ValueError);
}

TEST(HeadLoss, AllTokensStoredAreTheWholeTeacher) {
  const Case c = make_case(12);
  const LossWeights weights{0.0, 1.0};
  const torch::Tensor h = c.hidden.clone().requires_grad_();
  const Teacher stored{nullptr, {}, top_tokens(c.teacher, c.teacher_hidden, 263)};
  const HeadLoss loss = head_loss(c.student, h, c.targets, stored, weights, 1.0);
  loss.loss.backward();
  const torch::Tensor g = c.hidden.clone().requires_grad_();
  const torch::Tensor plain = plain_loss(c, g, weights);
  plain.backward();
  expect_close(loss.loss, plain);
  expect_close(h.grad(), g.grad());
}

TEST(HeadLoss, FewTokensStoredCountTheRestAsOneEvent) {
  const Case c = make_case(12);
  const TopTokens top = top_tokens(c.teacher, c.teacher_hidden, 5);
  const torch::Tensor h = c.hidden.clone().requires_grad_();
  const HeadLoss loss = head_loss(c.student, h, c.targets, {nullptr, {}, top}, {0.0, 1.0}, 1.0);
  loss.loss.backward();

  const torch::Tensor g = c.hidden.clone().requires_grad_();
  const torch::Tensor p = torch::softmax(torch::matmul(g, weight_of(c.student).t()), -1);
  const torch::Tensor p_top = p.gather(1, top.ids);
  const torch::Tensor all_p = torch::cat({p_top, 1.0 - p_top.sum(1, true)}, 1);
  const torch::Tensor q_top = top.log_q.exp();
  const torch::Tensor all_q = torch::cat({q_top, 1.0 - q_top.sum(1, true)}, 1);
  const torch::Tensor plain = (all_q * (all_q.log() - all_p.log())).sum();
  plain.backward();
  expect_close(loss.loss, plain);
  expect_close(h.grad(), g.grad());
  EXPECT_LT(loss.kl, head_loss(c.student, c.hidden, c.targets,
                               {&c.teacher, c.teacher_hidden, std::nullopt}, {0.0, 1.0}, 1.0)
                         .kl);
}

}  // namespace
}  // namespace schmidt::heal
