#include "schmidt/heal/adamw.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace schmidt::heal {
namespace {

using model::NamedTensor;
using model::Role;

std::vector<NamedTensor> leaves() {
  return {{"model.embed_tokens.weight", torch::randn({6, 4}), Role::kVocabulary},
          {"model.layers.0.input_layernorm.weight", torch::randn({4})},
          {"model.layers.0.self_attn.q_proj.cores.0", torch::randn({1, 4, 1, 2}), Role::kFactor},
          {"model.layers.0.self_attn.q_proj.cores.1", torch::randn({2, 1, 4, 1}), Role::kFactor},
          {"model.layers.0.mlp.down_proj.weight", torch::randn({4, 5})}};
}

torch::Tensor some_loss(const std::vector<NamedTensor>& of) {
  const torch::Tensor q = torch::matmul(of[2].tensor.reshape({4, 2}), of[3].tensor.reshape({2, 4}));
  return (torch::matmul(q * of[1].tensor, of[4].tensor)).tanh().sum() + of[0].tensor.square().sum();
}

TEST(Parameters, HoldTheTrainedTensorsInTheOrderOfTheComputation) {
  const auto all = leaves();
  const Parameters parameters(all, all, {.factors = true, .dense = true, .norms = true});
  std::vector<std::string> names;
  for (const auto& piece : parameters.pieces()) names.push_back(piece.name);
  EXPECT_EQ(names, (std::vector<std::string>{all[1].name, all[2].name, all[3].name, all[4].name}));
  EXPECT_FALSE(all[0].tensor.requires_grad());
  EXPECT_EQ(parameters.numel(), 20 + 8 + 8 + 4);
  EXPECT_TRUE(torch::equal(parameters.value_of(parameters.pieces()[3]), all[4].tensor));
  EXPECT_EQ(Parameters(all, all, {false, false, false, false}).numel(), 0);
}

TEST(Parameters, GatherGradientsOverSeveralPassesAndSayWhenEachIsThere) {
  const auto all = leaves();
  Parameters parameters(all, all, {.embedding = true});
  std::vector<size_t> order;
  parameters.on_gradient([&](size_t piece) { order.push_back(piece); });
  some_loss(all).backward();
  const torch::Tensor once = parameters.gradient().clone();
  EXPECT_EQ(order.size(), 5u);
  some_loss(all).backward();
  EXPECT_TRUE(torch::allclose(parameters.gradient(), 2 * once));
  EXPECT_FALSE(all[0].tensor.grad().defined());

  const auto copies = leaves();
  std::vector<torch::Tensor> inputs;
  for (size_t i = 0; i < all.size(); ++i) {
    copies[i].tensor.copy_(all[i].tensor.detach());
    inputs.push_back(copies[i].tensor.set_requires_grad(true));
  }
  const auto truth = torch::autograd::grad({some_loss(copies)}, inputs);
  for (const auto& piece : parameters.pieces()) {
    for (size_t i = 0; i < all.size(); ++i) {
      if (piece.name != all[i].name) continue;
      EXPECT_TRUE(
          torch::allclose(once.narrow(0, piece.offset, truth[i].numel()), truth[i].flatten()));
    }
  }
}

TEST(Parameters, MastersKeepWhatTheModelRounds) {
  const auto exact = leaves();
  std::vector<NamedTensor> rounded;
  for (const auto& [name, tensor, role] : exact) {
    rounded.push_back({name, tensor.to(torch::kBFloat16), role});
  }
  Parameters parameters(rounded, exact, {});
  parameters.values().add_(1e-5);
  parameters.write_to_model();
  const torch::Tensor& down = exact[4].tensor;
  EXPECT_TRUE(torch::equal(parameters.value_of(parameters.pieces()[3]), down + 1e-5));
  EXPECT_TRUE(torch::equal(rounded[4].tensor, (down + 1e-5).to(torch::kBFloat16)));
}

TEST(AdamW, StepsAsTorchDoesAlsoInSlices) {
  const auto ours = leaves();
  const auto theirs = leaves();
  std::vector<torch::Tensor> matrices, vectors;
  for (size_t i = 0; i < ours.size(); ++i) {
    theirs[i].tensor.copy_(ours[i].tensor);
    theirs[i].tensor.set_requires_grad(true);
    (ours[i].tensor.dim() >= 2 ? matrices : vectors).push_back(theirs[i].tensor);
  }
  const AdamWOptions options{0.9, 0.95, 1e-8, 0.1};
  const auto torch_options = torch::optim::AdamWOptions(1e-2).betas({0.9, 0.95}).eps(1e-8);
  torch::optim::AdamW decayed(matrices,
                              torch::optim::AdamWOptions(torch_options).weight_decay(0.1));
  torch::optim::AdamW kept(vectors, torch::optim::AdamWOptions(torch_options).weight_decay(0.0));

  Parameters parameters(ours, ours, {.embedding = true});
  // A border within a tensor: two ranks' optimizers.
  AdamW one(parameters, {{0, 25}, {30, 40}}, options);
  AdamW other(parameters, {{25, 30}, {40, parameters.numel()}}, options);
  for (int step = 0; step < 5; ++step) {
    parameters.gradient().zero_();
    some_loss(ours).backward();
    one.step(1e-2);
    other.step(1e-2);
    parameters.write_to_model();
    for (auto* optimizer : {&decayed, &kept}) optimizer->zero_grad();
    some_loss(theirs).backward();
    decayed.step();
    kept.step();
  }
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_TRUE(torch::allclose(ours[i].tensor, theirs[i].tensor, 1e-5, 1e-6)) << ours[i].name;
  }
  EXPECT_THROW(AdamW(parameters, {{0, parameters.numel() + 1}}, options), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::heal
