#include "schmidt/plan/allocate.h"

#include <gtest/gtest.h>

namespace schmidt::plan {
namespace {

Layer layer(int64_t rows, int64_t cols) { return {"layer", 0, {1}, {"layer"}, rows, cols}; }

double loss(const std::vector<LayerCurve>& curves, const std::vector<size_t>& chosen) {
  double sum = 0;
  for (size_t c = 0; c < curves.size(); ++c) sum += curves[c].points[chosen[c]].loss;
  return sum;
}

int64_t parameters(const std::vector<LayerCurve>& curves, const std::vector<size_t>& chosen) {
  int64_t sum = 0;
  for (size_t c = 0; c < curves.size(); ++c) sum += curves[c].points[chosen[c]].parameters;
  return sum;
}

TEST(PredictedCurve, IsHalfTheDroppedSquaresAtEveryRank) {
  const LayerCurve curve =
      predicted_curve(layer(3, 5), torch::tensor({9.0, 4.0, 1.0}, torch::kFloat64), 0.0);
  ASSERT_EQ(curve.points.size(), 3u);  // ranks 1, 2 and the dense layer
  EXPECT_EQ(curve.points[0].parameters, 1 * (3 + 5) - 1);
  EXPECT_DOUBLE_EQ(curve.points[0].loss, (4.0 + 1.0) / 2);
  EXPECT_EQ(curve.points[1].parameters, 2 * (3 + 5) - 4);
  EXPECT_DOUBLE_EQ(curve.points[1].loss, 0.5);
  EXPECT_EQ(curve.points[2].parameters, 15);
  EXPECT_TRUE(curve.points[2].bonds.empty());
  EXPECT_EQ(predicted_curve(layer(3, 5), torch::ones({3}), 0.6).points.front().bonds.front(), 2);
}

TEST(PredictedCurve, WithTheGaugeEndsWhereTheDenseLayerIsSmaller) {
  const LayerCurve curve =
      predicted_curve(layer(3, 5), torch::tensor({9.0, 4.0, 1.0}, torch::kFloat64), 0.0, false);
  ASSERT_EQ(curve.points.size(), 2u);  // two ranks would take 16 parameters
  EXPECT_EQ(curve.points[0].parameters, 3 + 5);
  EXPECT_EQ(curve.points[1].parameters, 15);
}

TEST(Allocate, EqualsTheBestOfAllChoicesOnConvexCurves) {
  // Losses fall convexly, each step one parameter: greedy is then optimal (exchange argument).
  std::vector<LayerCurve> curves;
  for (int c = 0; c < 3; ++c) {
    torch::Tensor gains = std::get<0>(torch::rand({4}, torch::kFloat64).sort(0, true));
    LayerCurve curve{layer(9, 9), {}};
    double rest = gains.sum().item<double>();
    for (int64_t i = 0; i <= 4; ++i) {
      curve.points.push_back({i + 1, rest, {i + 1}});
      if (i < 4) rest -= gains[i].item<double>();
    }
    curves.push_back(curve);
  }
  for (int64_t budget = 3; budget <= 15; ++budget) {
    double best = 1e9;
    for (size_t a = 0; a < 5; ++a) {
      for (size_t b = 0; b < 5; ++b) {
        for (size_t c = 0; c < 5; ++c) {
          if (parameters(curves, {a, b, c}) <= budget)
            best = std::min(best, loss(curves, {a, b, c}));
        }
      }
    }
    const auto chosen = allocate(curves, budget);
    EXPECT_LE(parameters(curves, chosen), budget);
    EXPECT_NEAR(loss(curves, chosen), best, 1e-12) << budget;
  }
}

TEST(Allocate, SkipsPointsAboveTheHullAndLossesThatRise) {
  const std::vector<LayerCurve> curves = {
      {layer(9, 9), {{10, 8.0, {1}}, {20, 7.9, {2}}, {30, 1.0, {3}}, {81, 2.0, {}}}}};
  EXPECT_EQ(allocate(curves, 29), std::vector<size_t>{0});
  EXPECT_EQ(allocate(curves, 30), std::vector<size_t>{2});
  EXPECT_EQ(allocate(curves, 1000), std::vector<size_t>{2});
}

TEST(Allocate, RefusesWhatCannotBe) {
  const std::vector<LayerCurve> curves = {{layer(9, 9), {{10, 1.0, {1}}, {81, 0.0, {}}}}};
  EXPECT_THROW(allocate(curves, 9), c10::ValueError);
  EXPECT_THROW(allocate({{layer(9, 9), {}}}, 9), c10::ValueError);
  EXPECT_THROW(allocate({{layer(9, 9), {{20, 1.0, {2}}, {10, 2.0, {1}}}}}, 99), c10::ValueError);
  EXPECT_THROW(plan_by_curves(curves, 0.0, 100, "fisher"), c10::ValueError);
  EXPECT_THROW(plan_by_curves(curves, 0.2, 100, "fisher"), c10::ValueError);
}

TEST(PlanByCurves, LeavesDenseLayersOut) {
  const std::vector<LayerCurve> curves = {{layer(9, 9), {{10, 1.0, {1}}, {81, 0.0, {}}}},
                                          {layer(9, 9), {{10, 5.0, {1}}, {81, 0.0, {}}}}};
  const auto plan = plan_by_curves(curves, 0.95, 200, "fisher").layers;
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].max_bonds, std::vector<int64_t>{1});
}

}  // namespace
}  // namespace schmidt::plan
