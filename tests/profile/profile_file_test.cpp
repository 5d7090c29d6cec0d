#include "schmidt/profile/profile_file.h"

#include <limits>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/profile/made_profile.h"
#include "tests/support/support.h"

namespace schmidt::profile {
namespace {

Profile example() {
  Profile profile = test::make_profile(
      test::seven_layers(2), {0.1, 0.5},
      [](const auto& l, double s) { return (1 - s) / (1.0 + static_cast<double>(l.block)); });
  profile.layers[3].points[0].value = std::numeric_limits<double>::quiet_NaN();
  profile.layers[3].points[0].loss = std::numeric_limits<double>::infinity();
  profile.layers[2].points[1].weighted_error = 0.25;
  return profile;
}

TEST(ProfileFile, ReadsBackAndWritesTheSameBytes) {
  test::TemporaryFolder tmp;
  write_profile(tmp / "a.json", example());
  const Profile read = read_profile(tmp / "a.json");
  write_profile(tmp / "b.json", read);
  EXPECT_EQ(test::read_file(tmp / "a.json"), test::read_file(tmp / "b.json"));
  ASSERT_EQ(read.layers.size(), 14u);
  EXPECT_EQ(read.layers[8].network.layer.label(), "L2");
  EXPECT_EQ(read.layers[8].points[1].loss, 0.25);
  EXPECT_FALSE(std::isfinite(read.layers[3].points[0].loss));
  EXPECT_EQ(read.layers[2].points[1].weighted_error, 0.25);
  EXPECT_FALSE(read.layers[2].points[0].weighted_error);
}

TEST(ProfileFile, RefusesWhatDoesNotHold) {
  test::TemporaryFolder tmp;
  write_profile(tmp / "a.json", example());
  const auto good = nlohmann::json::parse(test::read_file(tmp / "a.json"));
  const std::vector<std::function<void(nlohmann::json&)>> changes = {
      [](auto& p) { p["version"] = 7; },
      [](auto& p) { p["layers"] = nlohmann::json::array(); },
      [](auto& p) { p["setting"] = "colour"; },
      [](auto& p) { p["layers"][0]["rows"] = 49; },
      [](auto& p) {
        p["layers"][0]["kinds"] = {1, 2};
      },
      [](auto& p) { p["layers"][0]["kinds"] = {8}; },
      [](auto& p) { p["layers"][0]["points"].erase(0); },
      [](auto& p) { p["layers"][0]["points"][0]["bonds"] = {1000}; },
      [](auto& p) { p["layers"][0]["points"][0]["loss"] = "low"; },
      [](auto& p) { p["layers"][0]["points"][0]["parameters"] = -4; },
      [](auto& p) { p["layers"][0]["points"][0]["parameters"] = 1 << 20; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    nlohmann::json changed = good;
    changes[i](changed);
    test::write_file(tmp / "bad.json", changed.dump());
    EXPECT_THROW(read_profile(tmp / "bad.json"), FormatError) << "change " << i;
  }
}

}  // namespace
}  // namespace schmidt::profile
