#include "schmidt/io/record_log.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "test of something else";

TEST(RecordLog, FindsWhatEveryRankHasAppended) {
  test::TemporaryFolder tmp;
  const WorkFolder work = RecordLog::prepare(tmp / "log", "work", kWhat, false);
  {
    RecordLog first(tmp / "log", 0), second(tmp / "log", 1);
    first.append(7, {{"a", 0.1}});
    second.append(3, {{"a", 1.0 / 3}});
  }
  RecordLog(tmp / "log", 0).append(8, {{"a", 2}});
  const WorkFolder again = RecordLog::prepare(tmp / "log", "work", kWhat, false);
  const auto records = RecordLog::read(tmp / "log");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records.at(3)["a"].get<double>(), 1.0 / 3);  // to the last bit
  EXPECT_EQ(records.at(8)["a"], 2);
}

TEST(RecordLog, ALineThatWasCutOffDoesNotCountAndSpoilsNoOther) {
  test::TemporaryFolder tmp;
  const WorkFolder work = RecordLog::prepare(tmp / "log", "work", kWhat, false);
  RecordLog(tmp / "log", 0).append(1, {{"a", 1}});
  const std::string whole = test::read_file(tmp / "log/records.0");
  for (size_t cut = 0; cut < whole.size() - 1; ++cut) {
    test::write_file(tmp / "log/records.0", whole + whole.substr(0, cut));
    RecordLog(tmp / "log", 0).append(2, {{"a", 2}});
    const auto records = RecordLog::read(tmp / "log");
    ASSERT_EQ(records.size(), 2u) << cut;
    EXPECT_EQ(records.at(2)["a"], 2);
  }
}

TEST(RecordLog, ManyPiecesAreALineEach) {
  test::TemporaryFolder tmp;
  const WorkFolder work = RecordLog::prepare(tmp / "log", "work", kWhat, false);
  RecordLog(tmp / "log", 0).append({{4, {{"a", 1}}}, {2, {{"a", 2}}}});
  const auto records = RecordLog::read(tmp / "log");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records.at(2)["a"], 2);
  EXPECT_EQ(records.at(4)["a"], 1);
}

TEST(RecordLog, RefusesOtherWorkUnlessForced) {
  test::TemporaryFolder tmp;
  const WorkFolder work = RecordLog::prepare(tmp / "log", "work", kWhat, false);
  RecordLog(tmp / "log", 0).append(1, {});
  EXPECT_THROW((void)RecordLog::prepare(tmp / "log", "other", kWhat, false), c10::ValueError);
  EXPECT_EQ(RecordLog::read(tmp / "log").size(), 1u);
  const WorkFolder other = RecordLog::prepare(tmp / "log", "other", kWhat, true);
  EXPECT_TRUE(RecordLog::read(tmp / "log").empty());
}

TEST(RecordLog, AFullDiskIsASystemError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "absent: /dev/full";
  test::TemporaryFolder tmp;
  const WorkFolder work = RecordLog::prepare(tmp / "log", "work", kWhat, false);
  fs::create_symlink("/dev/full", tmp / "log/records.0");
  RecordLog log(tmp / "log", 0);
  EXPECT_THROW(log.append(1, {{"a", 1}}), SystemError);
}

}  // namespace
}  // namespace schmidt::io
