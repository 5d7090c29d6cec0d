#include "schmidt/base/held_folder.h"

#include <csignal>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

bool own(const std::string& name) { return name == "work"; }

TEST(HeldFolder, GoesWithTheFoldersAroundItWhereNothingWasMade) {
  const test::TemporaryFolder tmp;
  {
    const HeldFolder outer(tmp / "a" / "b", own);
    const HeldFolder inner(tmp / "a" / "b", own);  // of one process
    EXPECT_TRUE(fs::exists(tmp / "a" / "b"));
    EXPECT_FALSE(holds_anything(tmp / "a" / "b"));
  }
  EXPECT_TRUE(fs::is_empty(tmp.path()));
  {
    const HeldFolder folder(tmp / "a" / "b", own);
    test::write_file(tmp / "a" / "b" / "work", "1");
  }
  EXPECT_EQ(test::read_file(tmp / "a" / "b" / "work"), "1");
  HeldFolder(tmp / "a" / "b", own).remove();
  EXPECT_FALSE(fs::exists(tmp / "a" / "b"));
}

TEST(HeldFolder, IsNobodyElsesWhileItIsHeld) {
  const test::TemporaryFolder tmp;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const HeldFolder held(tmp / "f", own);
    test::write_file(tmp / "f" / "work", "of the first");
    if (::write(ready[1], "y", 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char answer = 'n';
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  try {
    const HeldFolder mine(tmp / "f", own);
    ADD_FAILURE() << "expected an error";
  } catch (const c10::ValueError& e) {
    EXPECT_NE(e.msg().find("in use by process " + std::to_string(child)), std::string::npos)
        << e.msg();
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  const HeldFolder mine(tmp / "f", own);
  EXPECT_EQ(test::read_file(tmp / "f" / "work"), "of the first");
}

TEST(HeldFolder, HoldsNothingElse) {
  const test::TemporaryFolder tmp;
  fs::create_directory(tmp / "f");
  test::write_file(tmp / "f" / "letters", "1");
  EXPECT_THROW(HeldFolder(tmp / "f", own), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "f" / kLockFile));
  test::write_file(tmp / "file", "");
  EXPECT_THROW(HeldFolder(tmp / "file", own), SystemError);
  EXPECT_THROW(HeldFolder(tmp / "file" / "f", own), SystemError);
}

}  // namespace
}  // namespace schmidt
