#include "schmidt/calibrate/windows.h"

#include <numeric>

#include <gtest/gtest.h>

namespace schmidt::calibrate {
namespace {

std::vector<int64_t> text(int64_t begin, int64_t size) {
  std::vector<int64_t> ids(size);
  std::iota(ids.begin(), ids.end(), begin);
  return ids;
}

TEST(CalibrationWindows, TakesEqualPartsWithoutOverlap) {
  const torch::Tensor w = calibration_windows({text(0, 100), text(1000, 100)}, 10, 80, 7);
  ASSERT_EQ(w.sizes(), (std::vector<int64_t>{8, 10}));
  EXPECT_EQ((w < 1000).all(1).sum().item<int64_t>(), 4);
  EXPECT_EQ(w.numel(), std::get<0>(at::_unique(w)).numel());
  EXPECT_TRUE(torch::equal(w.slice(1, 1), w.slice(1, 0, 9) + 1));  // each is a piece of a text
}

TEST(CalibrationWindows, AShortTextGivesWhatItHas) {
  const torch::Tensor w = calibration_windows({text(0, 25), text(1000, 100)}, 10, 80, 7);
  EXPECT_EQ(w.size(0), 8);
  EXPECT_EQ((w < 1000).all(1).sum().item<int64_t>(), 2);
  EXPECT_EQ(calibration_windows({text(0, 25)}, 10, 1000, 7).size(0), 2);
}

TEST(CalibrationWindows, FollowsTheSeed) {
  const auto draw = [](uint64_t seed) { return calibration_windows({text(0, 500)}, 10, 50, seed); };
  EXPECT_TRUE(torch::equal(draw(1), draw(1)));
  EXPECT_FALSE(torch::equal(draw(1), draw(2)));
}

TEST(CalibrationWindows, RefusesTextThatIsTooShort) {
  EXPECT_THROW(calibration_windows({text(0, 9)}, 10, 50, 0), c10::ValueError);
  EXPECT_THROW(calibration_windows({}, 10, 50, 0), c10::ValueError);
  EXPECT_THROW(calibration_windows({text(0, 99)}, 1, 50, 0), c10::ValueError);
  EXPECT_THROW(calibration_windows({text(0, 99)}, 60, 50, 0), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::calibrate
