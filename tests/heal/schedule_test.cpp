#include "schmidt/heal/schedule.h"

#include <gtest/gtest.h>

namespace schmidt::heal {
namespace {

TEST(Schedule, RisesToThePeakThenFallsToItsFinalShare) {
  const Schedule schedule{.peak = 2e-3, .steps = 110, .warmup = 10.0 / 110.0, .final_share = 0.1};
  EXPECT_DOUBLE_EQ(schedule.rate(0), 2e-4);
  EXPECT_DOUBLE_EQ(schedule.rate(9), 2e-3);
  EXPECT_DOUBLE_EQ(schedule.rate(10), 2e-3);
  EXPECT_NEAR(schedule.rate(60), 2e-3 * 0.55, 1e-12);  // half of the cosine's way
  for (int64_t s = 11; s < 110; ++s) EXPECT_LT(schedule.rate(s), schedule.rate(s - 1));
  EXPECT_GT(schedule.rate(109), 2e-4);
  EXPECT_DOUBLE_EQ(schedule.rate(500), schedule.rate(109));
}

TEST(Schedule, WithoutWarmupStartsAtThePeak) {
  EXPECT_DOUBLE_EQ((Schedule{.peak = 1.0, .steps = 4, .warmup = 0.0}).rate(0), 1.0);
  EXPECT_DOUBLE_EQ((Schedule{.peak = 1.0, .steps = 1, .warmup = 0.0}).rate(0), 1.0);
}

}  // namespace
}  // namespace schmidt::heal
