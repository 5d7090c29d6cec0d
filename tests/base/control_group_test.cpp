#include "schmidt/base/control_group.h"

#include <gtest/gtest.h>

#include "schmidt/base/memory.h"
#include "schmidt/base/processor.h"

#include "tests/support/support.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

/// Files of control groups as the system shows them.
class ControlGroup : public ::testing::Test {
 protected:
  void own(const std::string& lines) const { test::write_file(tmp / "own", lines); }
  void file(const std::string& path, const std::string& content) const {
    fs::create_directories((tmp / "groups" / path).parent_path());
    test::write_file(tmp / "groups" / path, content);
  }
  GroupLimits limits() const { return group_limits(tmp / "groups", tmp / "own"); }

  test::TemporaryFolder tmp;
};

TEST_F(ControlGroup, OfVersion2TakesTheLeastOfAllAbove) {
  own("0::/outer/inner\n");
  file("cgroup.controllers", "cpu memory\n");
  file("outer/memory.max", "1000\n");
  file("outer/memory.current", "900\n");
  file("outer/memory.stat", "anon 500\nfile 400\ninactive_file 300\n");
  file("outer/inner/memory.max", "2000\n");
  file("outer/inner/memory.current", "50\n");
  file("outer/cpu.max", "150000 100000\n");
  file("outer/inner/cpu.max", "max 100000\n");
  EXPECT_EQ(limits().memory, 1000);
  EXPECT_EQ(limits().memory_left, 1000 - (900 - 300));
  EXPECT_EQ(limits().processors, 1.5);
}

TEST_F(ControlGroup, OfAContainerIsTheRoot) {
  own("0::/somewhere/outside\n");
  file("cgroup.controllers", "cpu memory\n");
  file("memory.max", "5000\n");
  file("memory.current", "6000\n");  // reclaim is late
  EXPECT_EQ(limits().memory, 5000);
  EXPECT_EQ(limits().memory_left, 0);
  EXPECT_EQ(limits().processors, std::nullopt);
}

TEST_F(ControlGroup, OfVersion1HasAFolderForEachController) {
  own("9:name=systemd:/\n4:memory:/box\n2:cpu,cpuacct:/box\n0::/\n");
  file("memory/box/memory.limit_in_bytes", "800\n");
  file("memory/box/memory.usage_in_bytes", "500\n");
  file("memory/box/memory.stat", "inactive_file 7\ntotal_inactive_file 200\n");
  file("memory/memory.limit_in_bytes", "9223372036854771712\n");
  file("cpu/box/cpu.cfs_quota_us", "50000\n");
  file("cpu/box/cpu.cfs_period_us", "100000\n");
  file("cpu/cpu.cfs_quota_us", "-1\n");
  file("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(limits().memory, 800);
  EXPECT_EQ(limits().memory_left, 500);
  EXPECT_EQ(limits().processors, 0.5);
}

TEST_F(ControlGroup, SaysNothingWithoutALimit) {
  EXPECT_EQ(limits().memory, std::nullopt);
  own("no line of it\n0::/\n");
  file("cgroup.controllers", "");
  file("memory.max", "max\n");
  EXPECT_EQ(limits().memory, std::nullopt);
  EXPECT_EQ(limits().memory_left, std::nullopt);
  EXPECT_EQ(limits().processors, std::nullopt);
}

TEST(Memory, OfTheMachineHoldsWhatIsFree) {
  EXPECT_GT(available_bytes(), 0);
  EXPECT_LE(available_bytes(), machine_bytes());
}

TEST(Processor, GivesThisProcessNoMoreThanThereIs) {
  const ProcessorFacts facts = processor_facts();
  EXPECT_GE(facts.threads, 1);
  EXPECT_LE(facts.cores, facts.threads);
  EXPECT_GT(facts.usable, 0.0);
  EXPECT_LE(facts.usable, static_cast<double>(facts.threads));
}

}  // namespace
}  // namespace schmidt
