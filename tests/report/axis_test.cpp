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

TEST(Axis, ARangeWithoutWidthHasOneToo) {
  const Axis axis(3, 3, 0, 100, false);
  EXPECT_DOUBLE_EQ(axis.pixel(3), 50);
  EXPECT_FALSE(axis.ticks(5).empty());
  EXPECT_LE(Axis(2.1, std::nextafter(2.1, 3.0), 0, 100, false).ticks(5).size(), 11u);
}

}  // namespace
}  // namespace schmidt::report
