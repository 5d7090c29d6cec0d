#include "schmidt/report/axis.h"

#include <cmath>

#include <gtest/gtest.h>

namespace schmidt::report {
namespace {

std::string labels(const Axis& axis, int count) {
  std::string text;
  for (const Axis::Tick& tick : axis.ticks(count)) text += tick.label + " ";
  return text;
}

TEST(Axis, MapsItsRangeToPixels) {
  const Axis linear(10, 90, 100, 300, false);
  EXPECT_DOUBLE_EQ(linear.pixel(10), 100);
  EXPECT_DOUBLE_EQ(linear.pixel(50), 200);
  EXPECT_DOUBLE_EQ(linear.pixel(1000), 300);
  const Axis log(0.01, 100, 400, 0, true);  // upwards
  EXPECT_DOUBLE_EQ(log.pixel(1), 200);
  EXPECT_DOUBLE_EQ(log.pixel(0.1), 300);
  EXPECT_DOUBLE_EQ(log.pixel(0.0), 400);
}

TEST(Axis, TicksAreRound) {
  EXPECT_EQ(labels(Axis(8, 92, 0, 1, false), 5), "20 40 60 80 ");
  EXPECT_EQ(labels(Axis(0, 1, 0, 1, false), 5), "0 0.2 0.4 0.6 0.8 1 ");
  EXPECT_EQ(labels(Axis(-0.3, 0.3, 0, 1, false), 6), "-0.3 -0.2 -0.1 0 0.1 0.2 0.3 ");
  EXPECT_EQ(labels(Axis(0.5, 30, 0, 1, true), 5), "0.5 1 2 5 10 20 ");
  EXPECT_EQ(labels(Axis(1e-4, 10, 0, 1, true), 5), "1e-04 0.001 0.01 0.1 1 10 ");
}

TEST(Axis, EveryTickHasItsOwnLabel) {
  EXPECT_EQ(labels(Axis(0, 2e-4, 0, 1, false), 4), "0 5e-05 1e-04 1.5e-04 2e-04 ");
  EXPECT_EQ(labels(Axis(1e5, 1.6e5, 0, 1, false), 3), "1e+05 1.2e+05 1.4e+05 1.6e+05 ");
}

TEST(Axis, TicksSideBySideDoNotTouch) {
  const Axis narrow(1e5, 1.6e5, 0, 120, false), wide(1e5, 1.6e5, 0, 900, false);
  const auto few = narrow.ticks_side_by_side(10);
  ASSERT_GE(few.size(), 2u);
  EXPECT_GE(narrow.pixel(few[1].value) - narrow.pixel(few[0].value), 7 * 6.4);
  EXPECT_GT(wide.ticks_side_by_side(10).size(), few.size());
}

TEST(Axis, FewValuesFarAboveAllOthersAreNotShown) {
  EXPECT_EQ(largest_shown({32, 48, 75, 182, 274, 3277, 2e7}, true), 3277);
  EXPECT_EQ(largest_shown({101, 38.9, 29.1, 26.4, 23.7, 18.6}, true), 101);  // a start of its own
  EXPECT_EQ(largest_shown({1, 1.1, 1.2, 1.3, 29}, false), 1.3);
  EXPECT_EQ(largest_shown({1, 1.1, 29, 29.1}, false), 29.1);  // half of the values
  EXPECT_EQ(largest_shown({1, 9e9}, true), 9e9);              // too few to say
  EXPECT_EQ(largest_shown({7}, false), 7);
}

TEST(Axis, ARangeWithoutWidthHasOneToo) {
  const Axis axis(3, 3, 0, 100, false);
  EXPECT_DOUBLE_EQ(axis.pixel(3), 50);
  EXPECT_FALSE(axis.ticks(5).empty());
  EXPECT_LE(Axis(2.1, std::nextafter(2.1, 3.0), 0, 100, false).ticks(5).size(), 11u);
}

}  // namespace
}  // namespace schmidt::report
