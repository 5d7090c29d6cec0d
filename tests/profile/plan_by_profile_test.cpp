#include "schmidt/profile/plan_by_profile.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/profile/made_profile.h"

namespace schmidt::profile {
namespace {

const std::vector<double> kShares = {0.1, 0.25, 0.5, 0.75};

int64_t numel(const std::vector<plan::Layer>& layers) {
  int64_t total = 0;
  for (const auto& layer : layers) total += layer.numel();
  return total;
}

int64_t spent(const std::vector<plan::Layer>& layers, const ProfilePlan& plan) {
  int64_t total = numel(layers);
  for (const auto& p : plan.layers) total += p.parameters() - p.layer.numel();
  return total;
}

double share_of(const ProfilePlan& plan, const std::string& name) {
  for (const auto& p : plan.layers) {
    if (p.layer.name == name) return double(p.parameters()) / double(p.layer.numel());
  }
  return 1.0;
}

TEST(PlanByProfile, SpendsTheBudgetWhereItHelps) {
  const auto layers = test::seven_layers(4);
  // The first block is ten times as fragile as the others.
  const Profile profile = test::make_profile(layers, kShares, [](const auto& l, double s) {
    return (l.block == 0 ? 10.0 : 1.0) * (1 - s) * (1 - s);
  });
  const auto found = sensitivities(profile, layers);
  ASSERT_EQ(found.size(), layers.size());
  const int64_t budget = numel(layers) * 4 / 10;
  const ProfilePlan plan = plan_by_profile(found, budget, {});
  EXPECT_LE(spent(layers, plan), budget);
  EXPECT_GT(spent(layers, plan), budget * 99 / 100);  // to the last step of a curve
  EXPECT_GT(share_of(plan, "model.layers.0.mlp.up_proj"),
            share_of(plan, "model.layers.2.mlp.up_proj") + 0.2);
  EXPECT_NEAR(plan.loss, predicted_loss(found, plan.layers), 1e-12);

  plan::ShapeChoice shape;
  shape.low_rank = true;
  const auto uniform = plan::plan_keep(layers, shape, 0.4, numel(layers));
  EXPECT_LT(plan.loss, 0.9 * predicted_loss(found, uniform));
}

TEST(PlanByProfile, KeepsLayersBetweenFloorAndCeiling) {
  const auto layers = test::seven_layers(2);
  const Profile profile = test::make_profile(layers, kShares, [](const auto& l, double s) {
    return (l.paper_numbers.front() == 1 ? 100.0 : 1.0) * (1 - s) * (1 - s);
  });
  const auto found = sensitivities(profile, layers);
  const ProfilePlan plan = plan_by_profile(found, numel(layers) / 2, {0.3, 0.7});
  EXPECT_EQ(plan.layers.size(), layers.size()) << "a ceiling below 1 leaves none dense";
  for (const auto& p : plan.layers) {
    const double share = double(p.parameters()) / double(p.layer.numel());
    EXPECT_GE(share, 0.3);
    EXPECT_LE(share, 0.7);
  }
  const ShareLimits low = {0.3, 1.0};
  EXPECT_GE(least_parameters(found, low), numel(layers) * 3 / 10);
  EXPECT_THROW(plan_by_profile(found, numel(layers) / 10, low), c10::ValueError);
  EXPECT_THROW(plan_by_profile(found, numel(layers), {0.0, 0.01}), c10::ValueError);
}

TEST(PlanByProfile, BlocksInBetweenLieBetween) {
  const auto all = test::seven_layers(9);
  std::vector<plan::Layer> some;
  for (const auto& layer : all) {
    if (layer.block == 2 || layer.block == 6) some.push_back(layer);
  }
  const Profile profile = test::make_profile(some, kShares, [](const auto& l, double s) {
    return static_cast<double>(l.block) * (1 - s);
  });
  const auto found = sensitivities(profile, all);
  ASSERT_EQ(found.size(), all.size());
  const auto first_loss = [&](int64_t block) {
    return found[static_cast<size_t>(7 * block)].points.front().loss;
  };
  EXPECT_NEAR(first_loss(2), 2 * 0.9, 1e-12);
  EXPECT_NEAR(first_loss(3), 3 * 0.9, 1e-12);
  EXPECT_NEAR(first_loss(5), 5 * 0.9, 1e-12);
  EXPECT_NEAR(first_loss(0), 2 * 0.9, 1e-12);  // beyond the ends: as the nearest
  EXPECT_NEAR(first_loss(8), 6 * 0.9, 1e-12);
  EXPECT_EQ(found[7 * 8].network.layer.name, "model.layers.8.self_attn.q_proj");
}

TEST(PlanByProfile, EveryExpertHasAProfileOfItsOwn) {
  std::vector<plan::Layer> layers;
  for (plan::Layer layer : test::seven_layers(2)) {
    if (layer.paper_numbers.front() < 5) {
      layers.push_back(layer);
      continue;
    }
    const std::string name = layer.name;
    for (int64_t expert = 0; expert < 3; ++expert) {
      layer.expert = expert;
      layer.name = name + std::to_string(expert);
      layer.members = {layer.name};
      layers.push_back(layer);
    }
  }
  const Profile profile = test::make_profile(layers, kShares, [](const auto& l, double s) {
    return (l.expert == 1 ? 10.0 : 1.0) * (1 - s) * (1 - s);
  });
  const auto found = sensitivities(profile, layers);
  ASSERT_EQ(found.size(), layers.size());
  const ProfilePlan plan = plan_by_profile(found, numel(layers) / 2, {});
  EXPECT_GT(share_of(plan, "model.layers.0.mlp.up_proj1"),
            share_of(plan, "model.layers.0.mlp.up_proj0") + 0.2);
  EXPECT_NEAR(share_of(plan, "model.layers.1.mlp.up_proj2"),
              share_of(plan, "model.layers.1.mlp.up_proj0"), 0.05);
}

TEST(PlanByProfile, LeavesOutKindsThatWereNotProfiledAndPointsThatBrokeDown) {
  const auto all = test::seven_layers(2);
  std::vector<plan::Layer> some;
  for (const auto& layer : all) {
    if (layer.paper_numbers.front() != 7) some.push_back(layer);
  }
  Profile profile = test::make_profile(some, kShares, [](const auto&, double s) { return 1 - s; });
  profile.layers[0].points[0].loss = std::numeric_limits<double>::infinity();
  const auto found = sensitivities(profile, all);
  EXPECT_EQ(found.size(), 12u);
  EXPECT_EQ(found[0].points.size(), kShares.size() - 1);
}

TEST(PlanByProfile, TheSquareRootIsLinear) {
  const auto layers = test::seven_layers(1);
  // loss = (1 - s)^2 is met exactly at and between points, the dense end included.
  const Profile profile =
      test::make_profile(layers, kShares, [&](const auto&, double s) { return s; });
  auto found = sensitivities(profile, layers);
  for (Point& point : found[0].points) {
    const double s = double(point.parameters) / double(layers[0].numel());
    point.loss = (1 - s) * (1 - s);
  }
  for (const double s : {0.3, 0.4, 0.6, 0.8, 0.95}) {
    const auto parameters = static_cast<int64_t>(s * double(layers[0].numel()));
    const double exact = 1 - double(parameters) / double(layers[0].numel());
    EXPECT_NEAR(found[0].loss(parameters), exact * exact, 1e-9);
  }
  EXPECT_EQ(found[0].loss(layers[0].numel()), 0.0);
}

TEST(PlanByProfile, RefusesAProfileOfOtherShapes) {
  const Profile profile = test::make_profile(test::seven_layers(1), kShares,
                                             [](const auto&, double s) { return 1 - s; });
  auto layers = test::seven_layers(1);
  layers[0].rows = 24;
  EXPECT_THROW(sensitivities(profile, layers), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::profile
