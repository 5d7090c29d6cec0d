#include "schmidt/base/atomic_file.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

TEST(AtomicFile, AppearsOnlyOnCommit) {
  test::TemporaryFolder tmp;
  {
    AtomicFile file(tmp / "a");
    file.write("half");
    EXPECT_FALSE(fs::exists(tmp / "a"));
  }
  EXPECT_TRUE(fs::is_empty(tmp.path()));
  write_file_atomically(tmp / "a", "whole");
  EXPECT_EQ(test::read_file(tmp / "a"), "whole");
}

TEST(AtomicFile, ReportsAFullDisk) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  test::TemporaryFolder tmp;
  fs::create_symlink("/dev/full", (tmp / "a").string() + ".tmp" + std::to_string(::getpid()));
  AtomicFile file(tmp / "a");
  try {
    file.write("x");
    FAIL() << "expected an error";
  } catch (const SystemError& e) {
    EXPECT_NE(std::string(e.what()).find("No space left"), std::string::npos) << e.what();
  }
}

TEST(AtomicFolder, RefusesAnExistingFolderWithoutForce) {
  test::TemporaryFolder tmp;
  fs::create_directory(tmp / "out");
  EXPECT_THROW(AtomicFolder(tmp / "out", false), c10::ValueError);
}

TEST(AtomicFolder, ReplacesOnlyOnCommit) {
  test::TemporaryFolder tmp;
  fs::create_directory(tmp / "out");
  test::write_file(tmp / "out/old", "1");
  AtomicFolder folder(tmp / "out/", true);
  test::write_file(folder.path() / "new", "2");
  EXPECT_TRUE(fs::exists(tmp / "out/old"));
  folder.commit();
  EXPECT_FALSE(fs::exists(tmp / "out/old"));
  EXPECT_EQ(test::read_file(tmp / "out/new"), "2");
  EXPECT_EQ(std::distance(fs::directory_iterator(tmp.path()), fs::directory_iterator()), 1);
}

TEST(AtomicFolder, LeavesNoFolderInWhichNothingWasMade) {
  test::TemporaryFolder tmp;
  { const AtomicFolder folder(tmp / "out", false); }
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
  {
    const AtomicFolder folder(tmp / "out", false);
    test::write_file(folder.path() / "work", "1");
  }
  EXPECT_EQ(test::read_file(tmp / "out.partial/work"), "1");
}

TEST(FormatError, IsOneLineWhateverTheFileSays) {
  const FormatError e("x.json", "key\n\x1b[31m", "bad");
  EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
  EXPECT_EQ(std::string(e.what()).find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace schmidt
