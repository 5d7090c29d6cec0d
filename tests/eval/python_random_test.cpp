#include "schmidt/eval/python_random.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::eval {
namespace {

using Sample = std::vector<size_t>;

// Every number here is what Python 3.11 printed.

TEST(PythonRandom, SamplesAsRandomSampleDoes) {
  PythonRandom random(1234);
  EXPECT_EQ(random.sample(7473, 5), (Sample{6374, 3610, 957, 61, 742}));
  EXPECT_EQ(random.sample(7473, 5), (Sample{7462, 6610, 4769, 286, 5501}));
  EXPECT_EQ(random.sample(7473, 5), (Sample{5677, 687, 806, 6279, 2905}));
  EXPECT_EQ(PythonRandom(1234).sample(100, 8), (Sample{99, 56, 14, 0, 11, 74, 4, 85}));
}

TEST(PythonRandom, SamplesOfAFewAreDrawnFromAPool) {
  PythonRandom random(1234);
  EXPECT_EQ(random.sample(10, 3), (Sample{7, 1, 0}));
  EXPECT_EQ(random.sample(10, 3), (Sample{1, 0, 9}));
  EXPECT_EQ(random.sample(10, 3), (Sample{1, 5, 3}));
  EXPECT_EQ(random.uniform(), 0.017428048184618405);
  EXPECT_EQ(random.uniform(), 0.9866882397888058);
  EXPECT_EQ(PythonRandom(1234).sample(21, 21),
            (Sample{14, 3, 0, 2, 1, 17, 16, 12, 5, 19, 18, 10, 9, 13, 7, 4, 11, 6, 8, 15, 20}));
  EXPECT_TRUE(random.sample(3, 0).empty());
  EXPECT_THROW(random.sample(3, 4), c10::ValueError);
}

TEST(PythonRandom, GoesOnAfterTheStateIsUsedUp) {
  PythonRandom random(1234);
  size_t sum = 0;
  Sample last;
  for (int i = 0; i < 500; ++i) {
    last = random.sample(1000, 7);
    for (const size_t index : last) sum += index;
  }
  EXPECT_EQ(sum, 1766763u);
  EXPECT_EQ(last, (Sample{156, 404, 719, 270, 971, 65, 273}));
}

TEST(PythonRandom, SeedsOfAnySizeAndWideBoundsAreThoseOfPython) {
  PythonRandom zero(0);
  for (const double expected : {0.8444218515250481, 0.7579544029403025, 0.420571580830845}) {
    EXPECT_EQ(zero.uniform(), expected);
  }
  PythonRandom wide((uint64_t{1} << 40U) + 5);
  for (const uint64_t expected : {2166296868U, 2220160828U, 1153647273U}) {
    EXPECT_EQ(wide.bits(32), expected);
  }
  EXPECT_EQ(wide.sample(1, 1), (Sample{0}));
  PythonRandom random(1234);
  random.sample(100, 8);
  EXPECT_EQ(random.sample((size_t{1} << 31U) + 7, 4),
            (Sample{360511942, 422719469, 1523148328, 1017090249}));
}

}  // namespace
}  // namespace schmidt::eval
