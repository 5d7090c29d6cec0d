#include "schmidt/report/plot.h"

#include <gtest/gtest.h>

#include "tests/report/markup.h"

namespace schmidt::report {
namespace {

using test::count;

constexpr Box kCell = {0, 0, 420, 290};

std::string drawn(const PlotLabels& labels, const std::vector<double>& values) {
  Curve curve = {.name = "measured", .colour = kBlue, .radius = 3};
  for (size_t i = 0; i < values.size(); ++i) {
    curve.points.push_back({static_cast<double>(i), values[i], ""});
  }
  Svg svg(kCell.width, kCell.height);
  draw_curves(svg, kCell, labels, {curve});
  return svg.document();
}

TEST(Plot, AValueThatWouldFlattenTheOthersIsAnArrowheadAndNamed) {
  const PlotLabels labels = {"Loss", "step", "loss"};
  const std::string far = drawn(labels, {3.0, 2.5, 2.2, 2.1, 8e6, 2.0});
  EXPECT_EQ(count(far, ">1 beyond the axis, up to 8e+06<"), 1u);
  EXPECT_EQ(count(far, ">2.5<"), 1u) << "a tick of the others";
  EXPECT_EQ(count(far, ">1e+06<"), 0u);
  const std::string near = drawn(labels, {3.0, 2.5, 2.2, 2.1, 2.0});
  EXPECT_EQ(count(near, "beyond"), 0u);
}

TEST(Plot, TheOriginalHasALineAndAName) {
  const std::string linear = drawn({.title = "KL", .x = "step", .original = 0.0}, {1.5, 1.2, 0.9});
  EXPECT_EQ(count(linear, ">the original: 0<"), 1u);
  EXPECT_EQ(count(linear, "stroke-dasharray"), 2u);  // in the legend and in the plot
  const std::string log = drawn({.title = "KL", .x = "step", .original = 0.0}, {9, 0.1, 0.2});
  EXPECT_EQ(count(log, ">the original: 0, below a logarithmic axis<"), 1u);
  EXPECT_EQ(count(log, "stroke-dasharray"), 1u);
}

TEST(Plot, ColoursAreForLightPagesAndDarkOnes) {
  const std::string svg = drawn({"Loss", "step", "loss"}, {2, 1});
  EXPECT_EQ(count(svg, "style=\"color-scheme:light dark\""), 1u);
  EXPECT_GE(count(svg, "fill=\"#333333\" style=\"fill:light-dark(#333333,#dddddd)\""), 1u);
}

}  // namespace
}  // namespace schmidt::report
