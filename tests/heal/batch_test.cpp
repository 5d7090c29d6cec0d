#include "schmidt/heal/batch.h"

#include <numeric>

#include <gtest/gtest.h>

namespace schmidt::heal {
namespace {

std::vector<int64_t> values(const torch::Tensor& t) {
  return {t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel()};
}

TEST(Batch, TargetsAreTheNextTokensOfTheSameExample) {
  const Example a{{11, 12, 13}, {true, false, true}};
  const Example b{{21, 22}, {true, true}};
  const Batch batch = make_batch({{a, b}, {b}}, 6);
  EXPECT_EQ(values(batch.ids), (std::vector<int64_t>{11, 12, 13, 21, 22, 0, 21, 22, 0, 0, 0, 0}));
  EXPECT_EQ(values(batch.segments),
            (std::vector<int64_t>{0, 0, 0, 1, 1, -1, 0, 0, -1, -1, -1, -1}));
  EXPECT_EQ(values(batch.targets), (std::vector<int64_t>{-100, 13, -100, 22, -100, -100, 22, -100,
                                                         -100, -100, -100, -100}));
  EXPECT_EQ(batch.trained(), 3);
  EXPECT_EQ(batch.tokens(), 7);
}

TEST(Batch, RefusesRowsThatDoNotFit) {
  EXPECT_THROW(make_batch({{{{1, 2, 3}, {true, true, true}}}}, 2), c10::ValueError);
  EXPECT_THROW(make_batch({}, 2), c10::ValueError);
  EXPECT_THROW(make_batch({{}}, 1), c10::ValueError);
}

TEST(BestFit, TakesTheFirstThenTheLargestThatFits) {
  EXPECT_EQ(best_fit({6, 5, 3, 4, 1}, 10), (std::vector<size_t>{0, 3}));
  EXPECT_EQ(best_fit({5, 4, 3, 2, 2, 1}, 10), (std::vector<size_t>{0, 1, 5}));
  EXPECT_EQ(best_fit({10, 1}, 10), (std::vector<size_t>{0}));
  EXPECT_EQ(best_fit({2, 2, 2}, 10), (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(best_fit({4, 6, 6}, 10), (std::vector<size_t>{0, 1})) << "the earlier of equals";
  EXPECT_THROW(best_fit({11}, 10), c10::ValueError);
  EXPECT_THROW(best_fit({}, 10), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::heal
