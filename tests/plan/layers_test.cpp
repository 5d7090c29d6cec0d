#include "schmidt/plan/layers.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::plan {
namespace {

std::vector<std::string> names(const std::vector<Layer>& layers) {
  std::vector<std::string> out;
  for (const Layer& layer : layers) out.push_back(layer.name);
  return out;
}

class LayersTest : public ::testing::Test {
 protected:
  LayersTest()
      : checkpoint(io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"))) {}

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint;
};

TEST_F(LayersTest, SevenKindsForEveryBlockInOrder) {
  const auto layers = dense_layers(checkpoint);
  ASSERT_EQ(layers.size(), 14u);
  EXPECT_EQ(layers[0].name, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(layers[6].label(), "L7");
  EXPECT_EQ(layers[13].name, "model.layers.1.mlp.down_proj");
  EXPECT_EQ(layers[4].rows, 36);
  EXPECT_EQ(layers[4].cols, 24);
}

TEST_F(LayersTest, LeavesDownProjAloneByDefault) {
  const auto selected = select_layers(dense_layers(checkpoint), {});
  EXPECT_EQ(selected.size(), 12u);
  for (const Layer& layer : selected) EXPECT_NE(layer.paper_numbers, std::vector{7});
}

TEST_F(LayersTest, EveryKindOfPattern) {
  const auto all = dense_layers(checkpoint);
  const auto pick = [&](const std::string& pattern) {
    return names(select_layers(all, {{pattern}, {}}));
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(pick("model.layers.1.mlp.up_proj"), Names{"model.layers.1.mlp.up_proj"});
  EXPECT_EQ(pick("up_proj"), (Names{"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"}));
  EXPECT_EQ(pick("L6"), pick("up_proj"));
  EXPECT_EQ(pick("model.layers.0.*").size(), 7u);
  EXPECT_EQ(pick("re:.*layers\\.1\\..*_proj").size(), 7u);
  EXPECT_EQ(pick("re:model.layers.0.self_attn.[qk]").size(), 2u);
}

TEST_F(LayersTest, SaysWhichPatternMatchesNothing) {
  const auto all = dense_layers(checkpoint);
  EXPECT_THROW(select_layers(all, {{"proj"}, {}}), c10::ValueError);        // no whole part
  EXPECT_THROW(select_layers(all, {{"re:up_proj"}, {}}), c10::ValueError);  // not from the start
  EXPECT_THROW(select_layers(all, {{"re:("}, {}}), c10::ValueError);
  EXPECT_THROW(select_layers(all, {{"L6"}, {"up_proj"}}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::plan
