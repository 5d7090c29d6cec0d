#include "schmidt/model/block_pass.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "schmidt/model/dense_projection.h"
#include "schmidt/model/model.h"

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

class BlockPassTest : public testing::Test {
 protected:
  BlockPassTest() {
    torch::manual_seed(3);
    const test::TinyModel tiny = test::make_tiny_model();
    model = Model::load(tiny.config, Weights(tiny.tensors, "tiny", {}));
    h = torch::randn({3, 11, model->config().hidden_size});
    rope = model->rope(16);
  }

  const Block& block() const { return model->block(1); }

  // Random weights in place of a group's.
  ProjectionPtr another(Group group) const {
    const auto specs = group_layers(model->config(), 1, group);
    return std::make_shared<DenseProjection>(
        specs,
        torch::randn({block().projection(group)->out_features(), specs.front().in_features}) / 8,
        std::nullopt);
  }

  std::optional<Model> model;
  torch::Tensor h;
  RopeTable rope;
};

TEST_F(BlockPassTest, IsTheForwardPassBitForBit) {
  for (const bool recorded : {false, true}) {
    const at::AutoGradMode mode(recorded);
    BlockPass pass = block().begin(h, rope);
    for (const Group group : block().groups()) {
      EXPECT_EQ(pass.group(), group);
      pass.apply();
    }
    EXPECT_EQ(pass.group(), std::nullopt);
    EXPECT_TRUE(torch::equal(pass.residual(), block().forward(h, rope)));
  }
}

TEST_F(BlockPassTest, IsTheResidualGraphOfItsParts) {
  const at::NoGradGuard no_grad;
  BlockPass pass = block().begin(h, rope);
  pass.apply_until(Group::kOut);
  const torch::Tensor mixed = pass.input();
  const torch::Tensor attended = h + block().projection(Group::kOut)->apply(mixed);
  pass.apply();
  EXPECT_TRUE(torch::equal(pass.residual(), attended));
  const torch::Tensor z = block().norm(Group::kGateUp, attended);
  EXPECT_TRUE(torch::equal(pass.input(), z));
  const auto halves = block().projection(Group::kGateUp)->apply(z).chunk(2, -1);
  pass.apply();
  EXPECT_TRUE(torch::allclose(pass.input(), torch::silu(halves[0]) * halves[1], 1e-5, 1e-6));
  const torch::Tensor gated = pass.input();
  EXPECT_TRUE(
      torch::equal(pass.finish(), attended + block().projection(Group::kDown)->apply(gated)));
}

TEST_F(BlockPassTest, AnotherProjectionIsThatOfAChangedBlock) {
  const at::NoGradGuard no_grad;
  for (const Group group : block().groups()) {
    const ProjectionPtr other = another(group);
    Block changed = block();
    changed.replace(group, other);
    BlockPass pass = block().begin(h, rope);
    pass.apply_until(group);
    pass.apply(*other);
    EXPECT_TRUE(torch::equal(pass.finish(), changed.forward(h, rope)));
    EXPECT_FALSE(torch::equal(pass.residual(), block().forward(h, rope)));
  }
}

TEST_F(BlockPassTest, GoesOnFromWhatWasPutAside) {
  const at::NoGradGuard no_grad;
  const torch::Tensor segments =
      torch::tensor({0, 0, 0, 1, 1, 1, 1, 1, 2, -1, -1}, torch::kInt64).repeat({3, 1});
  const Packing packing = packing_of(segments);
  const torch::Tensor whole = block().forward(h, rope, packing);
  for (const Group group : block().groups()) {
    BlockPass pass = block().begin(h, rope, packing);
    pass.apply_until(group);
    BlockPass copy = pass;
    BlockPass later =
        block().resume({group, pass.residual().clone(), pass.input().clone()}, rope, packing);
    EXPECT_TRUE(torch::equal(pass.finish(), whole));
    EXPECT_TRUE(torch::equal(copy.finish(), whole));
    EXPECT_TRUE(torch::equal(later.finish(), whole));
  }
}

TEST_F(BlockPassTest, GradientsAreThoseOfTheForwardPass) {
  const torch::Tensor x = h.clone().requires_grad_();
  const torch::Tensor weight = torch::randn_like(h);
  const auto of = [&](const torch::Tensor& out) {
    return torch::autograd::grad({out}, {x}, {weight})[0];
  };
  EXPECT_TRUE(torch::equal(of(block().begin(x, rope).finish()), of(block().forward(x, rope))));
}

// Block 1 of a model whose tokens take 2 of 4 experts and one more.
class ExpertsTest : public testing::Test {
 protected:
  ExpertsTest() {
    const test::TinyModel tiny =
        test::make_tiny_model_of("qwen2_moe", {{"num_experts", 4},
                                               {"num_experts_per_tok", 2},
                                               {"moe_intermediate_size", 20},
                                               {"shared_expert_intermediate_size", 28}});
    model = Model::load(tiny.config, Weights(tiny.tensors, "tiny", {}));
    torch::manual_seed(3);
    h = torch::randn({3, 11, model->config().hidden_size});
    rope = model->rope(16);
  }

  const Block& block() const { return model->block(1); }

  std::optional<Model> model;
  torch::Tensor h;
  RopeTable rope;
};

TEST_F(ExpertsTest, TokensTakeSharesOfSome) {
  const torch::Tensor shares = block().shares(h);
  EXPECT_EQ(shares.sizes(), (at::IntArrayRef{3, 11, 5}));
  const torch::Tensor picked = shares.narrow(-1, 0, 4);
  EXPECT_TRUE(picked.gt(0).sum(-1).eq(2).all().item<bool>());
  EXPECT_TRUE(picked.sum(-1).lt(1).all().item<bool>());  // not normalized
  EXPECT_TRUE(shares.select(-1, 4).gt(0).all().item<bool>());
  EXPECT_THROW(model->block(1).projection(Group::kDown), c10::ValueError);
}

TEST_F(ExpertsTest, OneAfterTheOtherTheyAreTheForwardPass) {
  const torch::Tensor x = h.clone().requires_grad_();
  const torch::Tensor weight = torch::randn_like(h);
  const auto gradient = [&](const torch::Tensor& out) {
    return torch::autograd::grad({out}, {x}, {weight})[0];
  };
  const torch::Tensor whole = block().forward(x, rope);
  BlockPass pass = block().begin(x, rope);
  for (const Group group : block().groups()) {
    EXPECT_EQ(pass.group(), group);
    if (group.kind == Group::kGateUp) {
      const torch::Tensor taken =
          block().shares(pass.state().mixed).select(-1, *group.expert).ne(0);
      EXPECT_TRUE(pass.input().ne(0).any(-1).eq(taken).all().item<bool>());
    }
    pass.apply();
  }
  EXPECT_EQ(pass.group(), std::nullopt);
  EXPECT_TRUE(torch::allclose(pass.residual(), whole, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(gradient(pass.residual()), gradient(whole), 1e-4, 1e-5));
}

TEST_F(ExpertsTest, GoOnFromWhatWasPutAside) {
  const at::NoGradGuard no_grad;
  const torch::Tensor whole = block().forward(h, rope);
  for (const Group group : block().groups()) {
    BlockPass pass = block().begin(h, rope);
    pass.apply_until(group);
    BlockState state = pass.state();
    for (torch::Tensor* t : {&state.residual, &state.input, &state.mixed}) {
      if (t->defined()) *t = t->clone();
    }
    EXPECT_TRUE(torch::allclose(block().resume(state, rope).finish(), whole, 1e-5, 1e-6));
    EXPECT_TRUE(torch::allclose(pass.finish(), whole, 1e-5, 1e-6));
  }
}

TEST_F(BlockPassTest, RefusesToGoBeyondItsEnd) {
  BlockPass pass = block().begin(h, rope);
  pass.finish();
  EXPECT_THROW(pass.apply(), c10::ValueError);
  EXPECT_THROW(pass.apply_until(Group::kDown), c10::ValueError);
  EXPECT_THROW(block().begin(h.narrow(2, 0, 5), rope), c10::ValueError);
  EXPECT_THROW(block().norm(Group::kDown, h), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::model
