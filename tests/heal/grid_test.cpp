#include "schmidt/heal/grid.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::heal {
namespace {

TEST(Grid, RowsArePipelinesAndColumnsShareAStage) {
  for (int64_t rank = 0; rank < 6; ++rank) {
    const Grid grid = make_grid(rank, 6, 3);
    EXPECT_EQ(grid.replicas, 2);
    EXPECT_EQ(grid.pipeline[static_cast<size_t>(grid.stage)], rank);
    EXPECT_EQ(grid.data[static_cast<size_t>(grid.replica)], rank);
  }
  EXPECT_EQ(make_grid(4, 6, 3).pipeline, (std::vector<int64_t>{3, 4, 5}));
  EXPECT_EQ(make_grid(4, 6, 3).data, (std::vector<int64_t>{1, 4}));
  EXPECT_THROW(make_grid(0, 6, 4), c10::ValueError);
}

double largest(const std::vector<double>& work, const std::vector<int64_t>& cuts) {
  double found = 0;
  for (size_t s = 0; s + 1 < cuts.size(); ++s) {
    EXPECT_LT(cuts[s], cuts[s + 1]);
    found =
        std::max(found, std::accumulate(work.begin() + cuts[s], work.begin() + cuts[s + 1], 0.0));
  }
  return found;
}

TEST(CutBlocks, NoOtherCutIsBetter) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> draw(0.1, 3.0);
  for (int round = 0; round < 20; ++round) {
    std::vector<double> work(7);
    for (double& w : work) w = draw(random);
    const std::vector<int64_t> cuts = cut_blocks(work, 3);
    ASSERT_EQ(cuts.size(), 4u);
    const double found = largest(work, cuts);
    for (int64_t a = 1; a < 7; ++a) {
      for (int64_t b = a + 1; b < 7; ++b) EXPECT_LE(found, largest(work, {0, a, b, 7}));
    }
  }
  EXPECT_EQ(cut_blocks({1, 1}, 1), (std::vector<int64_t>{0, 2}));
  EXPECT_THROW(cut_blocks({1, 1}, 3), c10::ValueError);
}

TEST(BlockWork, CountsTheParametersOfBlocksAndOfTheOutputLayer) {
  const test::TemporaryFolder tmp;
  const test::TinyModel tiny = test::make_tiny_model(3);
  const auto work = block_work(io::Checkpoint::open(test::write_model(tiny, tmp / "m")));
  double stored = 0;
  for (const auto& [name, tensor] : tiny.tensors) stored += static_cast<double>(tensor.numel());
  ASSERT_EQ(work.size(), 3u);
  EXPECT_EQ(work[0], work[1]);
  EXPECT_EQ(work[2] - work[1], 264 * 24);
  EXPECT_EQ(std::accumulate(work.begin(), work.end(), 0.0), stored - 24);  // the final norm
}

}  // namespace
}  // namespace schmidt::heal
