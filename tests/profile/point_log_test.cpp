#include "schmidt/profile/point_log.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::profile {
namespace {

namespace fs = std::filesystem;

TEST(PointLog, FindsWhatEveryRankHasAppended) {
  test::TemporaryFolder tmp;
  const WorkFolder work = PointLog::prepare(tmp / "log", "work", false);
  {
    PointLog first(tmp / "log", 0), second(tmp / "log", 1);
    first.append(7, {{"a", 0.1}});
    second.append(3, {{"a", 1.0 / 3}});
  }
  PointLog(tmp / "log", 0).append(8, {{"a", 2}});
  const WorkFolder again = PointLog::prepare(tmp / "log", "work", false);
  const auto points = PointLog::read(tmp / "log");
  ASSERT_EQ(points.size(), 3u);
  EXPECT_EQ(points.at(3)["a"].get<double>(), 1.0 / 3);  // to the last bit
  EXPECT_EQ(points.at(8)["a"], 2);
}

TEST(PointLog, ALineThatWasCutOffDoesNotCountAndSpoilsNoOther) {
  test::TemporaryFolder tmp;
  const WorkFolder work = PointLog::prepare(tmp / "log", "work", false);
  PointLog(tmp / "log", 0).append(1, {{"a", 1}});
  const std::string whole = test::read_file(tmp / "log/points.0");
  for (size_t cut = 0; cut < whole.size() - 1; ++cut) {
    test::write_file(tmp / "log/points.0", whole + whole.substr(0, cut));
    PointLog(tmp / "log", 0).append(2, {{"a", 2}});
    const auto points = PointLog::read(tmp / "log");
    ASSERT_EQ(points.size(), 2u) << cut;
    EXPECT_EQ(points.at(2)["a"], 2);
  }
}

TEST(PointLog, RefusesOtherWorkUnlessForced) {
  test::TemporaryFolder tmp;
  const WorkFolder work = PointLog::prepare(tmp / "log", "work", false);
  PointLog(tmp / "log", 0).append(1, {});
  EXPECT_THROW((void)PointLog::prepare(tmp / "log", "other", false), c10::ValueError);
  EXPECT_EQ(PointLog::read(tmp / "log").size(), 1u);
  const WorkFolder other = PointLog::prepare(tmp / "log", "other", true);
  EXPECT_TRUE(PointLog::read(tmp / "log").empty());
}

TEST(PointLog, AFullDiskIsASystemError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "absent: /dev/full";
  test::TemporaryFolder tmp;
  const WorkFolder work = PointLog::prepare(tmp / "log", "work", false);
  fs::create_symlink("/dev/full", tmp / "log/points.0");
  PointLog log(tmp / "log", 0);
  EXPECT_THROW(log.append(1, {{"a", 1}}), SystemError);
}

}  // namespace
}  // namespace schmidt::profile
