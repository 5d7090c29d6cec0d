#include "schmidt/base/atomic_file.h"

#include <functional>

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

// Folders that hold a file `ours`, or unfinished `work`.
const FolderKind kKind = {
    [](const fs::path& folder) {
      return foreign_name(folder, [](const std::string& name) { return name == "ours"; });
    },
    [](const std::string& name) { return name == "work" || name == "new" || name == "ours"; }};

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const c10::ValueError& e) {
    return e.what_without_backtrace();
  }
  return "";
}

TEST(AtomicFolder, ReplacesWhatIsOfItsKindByForceAlone) {
  test::TemporaryFolder tmp;
  const auto made = [&](bool force) { AtomicFolder(tmp / "out", force, kKind).commit(); };
  fs::create_directory(tmp / "out");
  made(false);  // an empty one is as good as none
  test::write_file(tmp / "out/ours", "1");
  EXPECT_NE(message_of([&] { made(false); }).find("exists"), std::string::npos);
  test::write_file(tmp / "out/theirs", "1");
  EXPECT_NE(message_of([&] { made(true); }).find("holds theirs"), std::string::npos);
  EXPECT_EQ(test::read_file(tmp / "out/theirs"), "1");
  fs::remove(tmp / "out/theirs");
  made(true);
  EXPECT_TRUE(fs::is_empty(tmp / "out"));
  fs::remove(tmp / "out");
  test::write_file(tmp / "out", "a file");
  EXPECT_NE(message_of([&] { made(true); }).find("no folder"), std::string::npos);
}

TEST(AtomicFolder, LeavesOtherPeoplesThingsInAPartialFolderAlone) {
  test::TemporaryFolder tmp;
  fs::create_directory(tmp / "out.partial");
  test::write_file(tmp / "out.partial/theirs", "1");
  EXPECT_NE(message_of([&] { AtomicFolder(tmp / "out", true, kKind); }).find("holds theirs"),
            std::string::npos);
  EXPECT_EQ(std::distance(fs::directory_iterator(tmp / "out.partial"), fs::directory_iterator()),
            1);
}

TEST(AtomicFolder, FollowsALinkAndLeavesIt) {
  test::TemporaryFolder tmp;
  fs::create_directory(tmp / "disk");
  fs::create_symlink("disk/models", tmp / "out");
  for (const bool force : {false, true}) {  // to nothing yet, and to the first
    AtomicFolder folder(tmp / "out", force, kKind);
    EXPECT_EQ(folder.path(), fs::canonical(tmp / "disk") / "models.partial");
    test::write_file(folder.path() / "ours", force ? "2" : "1");
    folder.commit();
    EXPECT_TRUE(fs::is_symlink(tmp / "out"));
    EXPECT_EQ(test::read_file(tmp / "disk/models/ours"), force ? "2" : "1");
  }
}

TEST(AtomicFolder, NeverTakesTheWorkingDirectoryAway) {
  test::TemporaryFolder tmp;
  const fs::path before = fs::current_path();
  fs::create_directories(tmp / "here/below");
  fs::current_path(tmp / "here/below");
  for (const char* out : {".", "..", "./", "../below", "../../here/"}) {
    EXPECT_NE(message_of([&] { AtomicFolder(out, true, kKind); }).find("working directory"),
              std::string::npos)
        << out;
  }
  EXPECT_NE(message_of([&] { AtomicFolder("/proc", true, kKind); }).find("file system"),
            std::string::npos);
  fs::current_path(before);
}

TEST(AtomicFolder, WhatCameMeanwhileStaysAndTheWorkToo) {
  test::TemporaryFolder tmp;
  AtomicFolder folder(tmp / "out", false, kKind);
  test::write_file(folder.path() / "work", "1");
  fs::create_directory(tmp / "out");
  test::write_file(tmp / "out/theirs", "1");
  EXPECT_THROW(folder.commit(), c10::ValueError);
  EXPECT_EQ(test::read_file(tmp / "out/theirs"), "1");
  EXPECT_EQ(test::read_file(tmp / "out.partial/work"), "1");
}

TEST(AtomicFolder, ReplacesOnlyOnCommit) {
  test::TemporaryFolder tmp;
  fs::create_directory(tmp / "out");
  test::write_file(tmp / "out/ours", "1");
  AtomicFolder folder(tmp / "out/", true, kKind);
  test::write_file(folder.path() / "new", "2");
  EXPECT_TRUE(fs::exists(tmp / "out/ours"));
  folder.commit();
  EXPECT_FALSE(fs::exists(tmp / "out/ours"));
  EXPECT_EQ(test::read_file(tmp / "out/new"), "2");
  EXPECT_EQ(std::distance(fs::directory_iterator(tmp.path()), fs::directory_iterator()), 1);
}

TEST(AtomicFolder, LeavesNoFolderInWhichNothingWasMade) {
  test::TemporaryFolder tmp;
  { const AtomicFolder folder(tmp / "new/parent/out", false, kKind); }
  EXPECT_TRUE(fs::is_empty(tmp.path()));
  {
    const AtomicFolder folder(tmp / "out", false, kKind);
    test::write_file(folder.path() / "work", "1");
  }
  EXPECT_EQ(test::read_file(tmp / "out.partial/work"), "1");
}

TEST(AtomicFile, WhatAKillLeavesIsNamedAfterTheWholeFile) {
  const test::TemporaryFolder tmp;
  const AtomicFile unfinished(tmp / "notes.txt");
  const auto entry = *fs::directory_iterator(tmp.path());
  EXPECT_NE(entry.path().filename(), "notes.txt");
  EXPECT_EQ(whole_name(entry.path().filename().string()), "notes.txt");
  EXPECT_EQ(whole_name("notes.txt"), "notes.txt");
}

TEST(FormatError, IsOneLineWhateverTheFileSays) {
  const FormatError e("x.json", "key\n\x1b[31m", "bad");
  EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
  EXPECT_EQ(std::string(e.what()).find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace schmidt
