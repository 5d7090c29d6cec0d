#include "schmidt/base/file_system.h"

#include <functional>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

// Every question and change, asked of one path.
const std::vector<std::function<void(const fs::path&)>> kAll = {
    [](const fs::path& p) { path_exists(p); },
    [](const fs::path& p) { is_folder(p); },
    [](const fs::path& p) { is_plain_file(p); },
    [](const fs::path& p) { is_empty_folder(p); },
    [](const fs::path& p) { folder_entries(p); },
    [](const fs::path& p) { bytes_of_file(p); },
    [](const fs::path& p) { make_folders(p / "made"); },
    [](const fs::path& p) { move_path(p / "a", p / "b"); },
    [](const fs::path& p) { copy_plain_file(p / "a", p / "b"); },
    [](const fs::path& p) { without_links(p); },
};

void expect_refused(const fs::path& path, const std::string& reason) {
  for (size_t i = 0; i < kAll.size(); ++i) {
    try {
      kAll[i](path);
      ADD_FAILURE() << "number " << i << " was let through at " << path;
    } catch (const SystemError& e) {
      const std::string what = e.what();
      EXPECT_NE(what.find(path.string()), std::string::npos) << i << ": " << what;
      EXPECT_NE(what.find(reason), std::string::npos) << i << ": " << what;
    }
  }
}

TEST(FileSystem, ALastNameNeedsNoEndOfThePath) {
  for (const char* path : {"small", "models/small", "models/small/", "models//small//", "./small/.",
                           "/models/x/../small/"}) {
    EXPECT_EQ(last_name(path), "small") << path;
  }
  EXPECT_EQ(last_name("/"), "");
}

TEST(FileSystem, AnswersForWhatIsThereAndWhatIsNot) {
  const test::TemporaryFolder tmp;
  test::write_file(tmp / "b", "four");
  make_folders(tmp / "a" / "deep");
  fs::create_symlink("nowhere", tmp / "link");
  EXPECT_TRUE(path_exists(tmp / "b") && is_plain_file(tmp / "b") && !is_folder(tmp / "b"));
  EXPECT_TRUE(is_folder(tmp / "a") && !is_plain_file(tmp / "a"));
  EXPECT_FALSE(path_exists(tmp / "link"));
  EXPECT_TRUE(entry_exists(tmp / "link"));
  EXPECT_FALSE(entry_exists(tmp / "none"));
  for (const fs::path& nothing : {tmp / "none", tmp / "none" / "x", tmp / "b" / "x"}) {
    EXPECT_FALSE(path_exists(nothing) || is_folder(nothing) || is_plain_file(nothing)) << nothing;
  }
  EXPECT_EQ(bytes_of_file(tmp / "b"), 4U);
  EXPECT_TRUE(is_empty_folder(tmp / "a" / "deep") && !is_empty_folder(tmp / "a"));
  EXPECT_EQ(folder_entries(tmp.path()),
            (std::vector<fs::path>{tmp / "a", tmp / "b", tmp / "link"}));
}

TEST(FileSystem, ChangesWhatItIsAskedTo) {
  const test::TemporaryFolder tmp;
  test::write_file(tmp / "a", "x");
  copy_plain_file(tmp / "a", tmp / "b");
  move_path(tmp / "b", tmp / "c");
  remove_file(tmp / "a");
  remove_file(tmp / "a");
  EXPECT_EQ(folder_entries(tmp.path()), std::vector<fs::path>{tmp / "c"});
  make_folders(tmp / "f" / "g");
  remove_tree(tmp / "f");
  remove_tree(tmp / "f");
  EXPECT_EQ(folder_entries(tmp.path()), std::vector<fs::path>{tmp / "c"});
}

TEST(FileSystem, RefusalsAreSystemErrors) {
  const test::TemporaryFolder tmp;
  fs::create_symlink("loop", tmp / "loop");
  expect_refused(tmp / "loop", "Too many levels of symbolic links");
  expect_refused(tmp / "loop" / "inside", "Too many levels of symbolic links");
  expect_refused(tmp / std::string(300, 'x'), "File name too long");
  EXPECT_TRUE(entry_exists(tmp / "loop"));
  EXPECT_THROW(entry_exists(tmp / std::string(300, 'x')), SystemError);
  EXPECT_THROW(remove_file(tmp / std::string(300, 'x')), SystemError);
  EXPECT_THROW(remove_tree(tmp / "loop" / "inside"), SystemError);
  test::write_file(tmp / "file", "");
  EXPECT_THROW(make_folders(tmp / "file" / "folder"), SystemError);
  EXPECT_THROW(folder_entries(tmp / "file"), SystemError);
  EXPECT_THROW(folder_entries(tmp / "none"), SystemError);
}

TEST(FileSystem, AnothersFolderIsASystemError) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
  const test::TemporaryFolder tmp;
  fs::permissions(tmp.path(), fs::perms::all);
  make_folders(tmp / "home" / "inside");
  fs::permissions(tmp / "home", fs::perms::owner_all);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(65534) != 0) ::_exit(2);
    expect_refused(tmp / "home" / "inside", "Permission denied");
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace schmidt
