#include "schmidt/compress/layers.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/compress/fingerprint.h"
#include "schmidt/compress/summary.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::compress {
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
  for (const Layer& layer : selected) EXPECT_NE(layer.kinds, std::vector{7});
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

TEST_F(LayersTest, SummaryCountsATiedEmbeddingOnce) {
  const ModelSummary summary = summarize(checkpoint);
  int64_t expected = 0;
  for (const auto& [name, tensor] : test::make_tiny_model().tensors) expected += tensor.numel();
  EXPECT_EQ(summary.parameters, expected);
  EXPECT_EQ(summary.dense_parameters, expected);
  EXPECT_EQ(summary.bytes, static_cast<uint64_t>(4 * expected));
  EXPECT_EQ(summary.modules.front().kind, "embedding");
  EXPECT_EQ(summary.modules.back().name, "model.norm");
}

TEST_F(LayersTest, FingerprintFollowsTheModelNotItsPlace) {
  const auto copy = io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "copy"));
  const auto other =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 7), tmp / "other"));
  EXPECT_EQ(fingerprint(checkpoint), fingerprint(copy));
  EXPECT_NE(fingerprint(checkpoint), fingerprint(other));
  auto one_matrix = test::make_tiny_model();  // as after training of an adapter
  one_matrix.tensors["model.layers.1.mlp.up_proj.weight"] *= 1.01;
  const auto tuned = io::Checkpoint::open(test::write_model(one_matrix, tmp / "tuned"));
  EXPECT_NE(fingerprint(checkpoint), fingerprint(tuned));
}

TEST(Fingerprint, IsTheHashItNames) {
  // The published FNV-1a value of "a" is af63dc4c8601ec8c; the separator byte ff follows.
  const uint64_t with_separator = (0xaf63dc4c8601ec8cULL ^ 0xff) * 0x100000001b3ULL;
  EXPECT_EQ(Fingerprint().add("a").hex(), fmt::format("{:016x}", with_separator));
}

}  // namespace
}  // namespace schmidt::compress
