#include "schmidt/report/sensitivity_figure.h"

#include <cmath>
#include <limits>
#include <sstream>
#include <vector>

#include <gtest/gtest.h>

#include "schmidt/report/svg.h"

#include "tests/profile/made_profile.h"
#include "tests/report/markup.h"

namespace schmidt::report {
namespace {

using test::count;
using test::well_formed;

profile::Profile example(int64_t blocks) {
  return test::make_profile(
      test::seven_layers(blocks), {0.1, 0.3, 0.6}, [](const plan::Layer& layer, double share) {
        return std::exp(-8 * share) / (1.0 + static_cast<double>(layer.block));
      });
}

TEST(SensitivityFigure, HasAPanelForEachKindAndALineForEachBlock) {
  const std::string svg = sensitivity_svg(example(4));
  EXPECT_TRUE(well_formed(svg));
  EXPECT_EQ(count(svg, "<polyline"), 7u * 4);
  EXPECT_EQ(count(svg, ">dense 0<"), 7u);
  EXPECT_EQ(count(svg, "stroke-dasharray"), 7u);
  for (const char* title : {">L1 q_proj<", ">L4 o_proj<", ">L7 down_proj<"}) {
    EXPECT_EQ(count(svg, title), 1u) << title;  // of a panel
  }
  for (const char* title : {">L1<", ">q<", ">L7<", ">down<"}) {
    EXPECT_EQ(count(svg, title), 1u) << title;  // of a column of the heat map
  }
  EXPECT_EQ(svg, sensitivity_svg(example(4)));
}

TEST(SensitivityFigure, TheOriginalLiesAboveWhatLostAccuracy) {
  profile::Profile accuracy =
      test::make_profile(test::seven_layers(2), {0.1, 0.3, 0.6},
                         [](const plan::Layer&, double share) { return 0.25 + 0.5 * share; });
  accuracy.metric = "mmlu";
  accuracy.dense = 0.7;
  const std::string svg = sensitivity_svg(accuracy);
  const size_t line = svg.rfind("<line", svg.find("stroke-dasharray"));
  const double dense = std::stod(svg.substr(svg.find("y1=\"", line) + 4));
  std::istringstream points(svg.substr(svg.find("points=\"") + 8));
  std::vector<double> y;
  for (double x = 0, next = 0; y.size() < 3 && (points >> x).ignore() && points >> next;) {
    y.push_back(next);
  }
  ASSERT_EQ(y.size(), 3U);
  // 0.3 and 0.55 are the outer points of a line: the axis is linear, pixels grow downwards.
  EXPECT_NEAR((y[0] - dense) / (y[0] - y[2]), (0.7 - 0.3) / (0.55 - 0.3), 0.02);
  EXPECT_EQ(count(svg, ">dense 0.7<"), 7u);
}

TEST(SensitivityFigure, ADeepModelHasAScaleForItsBlocks) {
  const std::string svg = sensitivity_svg(example(30));
  EXPECT_EQ(count(svg, "<polyline"), 7u * 30);
  EXPECT_EQ(count(svg, ": 0."), 7u * 30 * 3 + 7u * 30) << "a tip for each dot and each cell";
}

TEST(SensitivityFigure, PointsThatBrokeDownAreLeftOutOfLinesAndNamedInMaps) {
  profile::Profile profile = example(2);
  profile.layers[3].points[1].value = std::numeric_limits<double>::quiet_NaN();
  profile.layers[4].points[0].value = std::numeric_limits<double>::infinity();
  const std::string svg = sensitivity_svg(profile);
  EXPECT_TRUE(well_formed(svg));
  EXPECT_EQ(count(svg, "nan"), 0u);
  EXPECT_EQ(count(svg, "inf"), 0u);
  EXPECT_EQ(count(heat_map_svg(profile, 1), ">broken<"), 1u);
}

TEST(SensitivityFigure, AValueThatWouldFlattenTheOthersIsBeyondTheAxis) {
  profile::Profile profile = example(2);
  profile.layers[3].points[0].value = 1e9;
  const std::string svg = sensitivity_svg(profile);
  EXPECT_EQ(count(svg, ">beyond the axis: 1, up to 1e+09<"), 1u);
  EXPECT_EQ(count(svg, ">1e+06<"), 0u);
  EXPECT_EQ(count(sensitivity_svg(example(2)), "beyond"), 0u);
}

TEST(SensitivityFigure, ThePageOpensWithoutANetwork) {
  const std::string page = sensitivity_page(example(3), "a <model> & more");
  EXPECT_TRUE(well_formed(page));
  EXPECT_EQ(count(page, "a &lt;model&gt; &amp; more"), 2u);
  EXPECT_EQ(count(page, "<svg"), 7u + 1 + 3) << "panels, their legend, heat maps";
  EXPECT_EQ(count(page, "<tr>"), 1u + 21);
  for (const char* outside : {"src=", "href=", "<script", "@import", "url("}) {
    EXPECT_EQ(count(page, outside), 0u) << outside;
  }
}

TEST(SensitivityFigure, StackedLayersAndFewKindsHaveTheirPanels) {
  profile::Profile profile = example(2);
  std::erase_if(profile.layers,
                [](const auto& l) { return l.network.layer.paper_numbers.front() > 2; });
  profile.layers[0].network.layer.paper_numbers = {1, 2, 3};
  const std::string svg = sensitivity_svg(profile);
  EXPECT_TRUE(well_formed(svg));
  EXPECT_EQ(count(svg, ">L1+L2+L3 q_proj k_proj<"), 1u);
  EXPECT_EQ(count(svg, ">v_proj<"), 1u) << "a long title goes on in the next line";
}

TEST(Svg, EscapesWhatItIsGiven) {
  Svg svg(10, 10);
  svg.text({1, 2}, "a<b & \"c\"");
  EXPECT_NE(svg.document().find("a&lt;b &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_TRUE(well_formed(svg.document()));
}

}  // namespace
}  // namespace schmidt::report
