// Blocks that keep their input alone, against blocks that keep everything.

#include "schmidt/model/checkpointed.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "schmidt/model/model.h"

#include "tests/support/compressed_model.h"

namespace schmidt::model {
namespace {

class CheckpointedBlocks : public testing::Test {
 protected:
  test::CompressedModel models_ = test::make_compressed_model();
  Model model_ =
      Model::load(models_.compressed.config, Weights(models_.compressed.tensors, "tiny"));
  std::vector<NamedTensor> parameters_ = model_.parameters();
  torch::Tensor ids_ = torch::randint(264, {2, 9}, torch::kInt64);
  Packing packing_ = {{{0, 4}, {4, 5}, {9, 7}}};

  torch::Tensor loss(bool checkpoint) const {
    torch::Tensor h = model_.embed(ids_);
    const RopeTable rope = model_.rope(ids_.size(1));
    for (int64_t i = 0; i < model_.num_blocks(); ++i) {
      h = checkpoint ? checkpointed(model_.block(i), h, rope, packing_)
                     : model_.block(i).forward(h, rope, packing_);
    }
    return model_.logits(model_.final_norm(h)).square().mean();
  }

  std::vector<torch::Tensor> take_gradients() const {
    std::vector<torch::Tensor> gradients;
    for (const NamedTensor& p : parameters_) {
      gradients.push_back(p.tensor.grad().defined() ? p.tensor.grad().clone() : torch::Tensor());
      p.tensor.mutable_grad().reset();
    }
    return gradients;
  }

  void expect_same_gradients() const {
    loss(false).backward();
    const std::vector<torch::Tensor> plain = take_gradients();
    loss(true).backward();
    const std::vector<torch::Tensor> found = take_gradients();
    for (size_t i = 0; i < plain.size(); ++i) {
      ASSERT_EQ(found[i].defined(), plain[i].defined()) << parameters_[i].name;
      if (!plain[i].defined()) continue;
      const double scale = plain[i].abs().max().item<double>();
      EXPECT_GT(scale, 0.0) << parameters_[i].name;
      EXPECT_LT((found[i] - plain[i]).abs().max().item<double>(), 1e-5 * scale)
          << parameters_[i].name;
    }
  }
};

TEST_F(CheckpointedBlocks, HaveTheSameGradients) {
  for (const NamedTensor& p : parameters_) p.tensor.set_requires_grad(true);
  expect_same_gradients();
}

TEST_F(CheckpointedBlocks, HaveThemBehindAFrozenEmbedding) {
  for (const NamedTensor& p : parameters_) {
    p.tensor.set_requires_grad(p.name.find("mlp") != std::string::npos);
  }
  expect_same_gradients();
}

TEST_F(CheckpointedBlocks, PassGradientsThroughAFrozenBlock) {
  for (const NamedTensor& p : parameters_) {
    p.tensor.set_requires_grad(!p.name.starts_with("model.layers.1."));
  }
  expect_same_gradients();
}

TEST_F(CheckpointedBlocks, AddToGradientsThatAreThere) {
  for (const NamedTensor& p : parameters_) p.tensor.set_requires_grad(true);
  loss(true).backward();
  const std::vector<torch::Tensor> once = take_gradients();
  loss(true).backward();
  loss(true).backward();
  const std::vector<torch::Tensor> twice = take_gradients();
  for (size_t i = 0; i < once.size(); ++i) {
    EXPECT_TRUE(torch::allclose(twice[i], 2 * once[i], 1e-4, 1e-7)) << parameters_[i].name;
  }
}

TEST_F(CheckpointedBlocks, FireEachLeafsHookOnce) {
  std::map<std::string, int> fired;
  for (const NamedTensor& p : parameters_) {
    p.tensor.set_requires_grad(true);
    p.tensor.register_hook([&fired, name = p.name](const torch::Tensor&) { ++fired[name]; });
  }
  loss(true).backward();
  EXPECT_EQ(fired.size(), parameters_.size());
  for (const auto& [name, times] : fired) EXPECT_EQ(times, 1) << name;
}

TEST_F(CheckpointedBlocks, RecordNothingWhereNothingIsTrained) {
  EXPECT_FALSE(loss(true).requires_grad());
  EXPECT_TRUE(torch::equal(loss(true), loss(false)));
}

TEST_F(CheckpointedBlocks, RefuseASecondDerivative) {
  for (const NamedTensor& p : parameters_) p.tensor.set_requires_grad(true);
  const torch::Tensor h = model_.embed(ids_).detach().requires_grad_();
  const torch::Tensor y = checkpointed(model_.block(0), h, model_.rope(9));
  EXPECT_THROW(torch::autograd::grad({y.sum()}, {h}, {}, std::nullopt, /*create_graph=*/true),
               c10::NotImplementedError);
}

}  // namespace
}  // namespace schmidt::model
