#include "schmidt/base/file_lock.h"

#include <csignal>
#include <cstdlib>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;
using Mode = FileLock::Mode;

/// Whether another process gets the lock.
bool another_gets(const fs::path& file, Mode mode) {
  const pid_t child = ::fork();
  if (child == 0) {
    // A process of its own would not know of what this one holds.
    ::_exit(FileLock::take(file, mode) ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status) == 0;
}

/// A process that holds a lock until it is killed.
class Holder {
 public:
  Holder(const fs::path& file, Mode mode) {
    int ready[2];
    if (::pipe(ready) != 0) std::abort();
    child_ = ::fork();
    if (child_ == 0) {
      const auto lock = FileLock::take(file, mode);
      const char answer = lock ? 'y' : 'n';
      if (::write(ready[1], &answer, 1) != 1) ::_exit(1);
      while (true) ::pause();
    }
    char answer = 'n';
    held_ = ::read(ready[0], &answer, 1) == 1 && answer == 'y';
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Holder() { kill(); }

  bool held() const { return held_; }
  pid_t process() const { return child_; }
  void kill() {
    if (child_ == 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }

 private:
  pid_t child_ = 0;
  bool held_ = false;
};

TEST(FileLock, KeepsOtherProcessesOutUntilItsOwnEnds) {
  const test::TemporaryFolder tmp;
  Holder other(tmp / "lock", Mode::kExclusive);
  ASSERT_TRUE(other.held());
  EXPECT_FALSE(FileLock::take(tmp / "lock", Mode::kExclusive));
  EXPECT_FALSE(FileLock::take(tmp / "lock", Mode::kShared));
  EXPECT_TRUE(FileLock::holder(tmp / "lock")
                  .starts_with("process " + std::to_string(other.process()) + " on "));
  other.kill();
  EXPECT_TRUE(FileLock::take(tmp / "lock", Mode::kExclusive));
}

TEST(FileLock, ReadersShareIt) {
  const test::TemporaryFolder tmp;
  Holder other(tmp / "lock", Mode::kShared);
  ASSERT_TRUE(other.held());
  const auto mine = FileLock::take(tmp / "lock", Mode::kShared);
  EXPECT_TRUE(mine);
  EXPECT_FALSE(FileLock::take(tmp / "lock", Mode::kExclusive));
  other.kill();
  EXPECT_TRUE(FileLock::take(tmp / "lock", Mode::kExclusive));
}

TEST(FileLock, OneProcessMayTakeItTwiceAndLetsGoWithTheLast) {
  const test::TemporaryFolder tmp;
  auto first = FileLock::take(tmp / "lock", Mode::kExclusive);
  auto second = FileLock::take(tmp / "lock", Mode::kExclusive);
  ASSERT_TRUE(first && second);
  first.reset();
  EXPECT_TRUE(second->is_of(tmp / "lock"));
  second->share();
  second.reset();
  EXPECT_TRUE(another_gets(tmp / "lock", Mode::kExclusive));
}

TEST(FileLock, AFileThatWasRemovedIsNotTheOneThatIsLocked) {
  const test::TemporaryFolder tmp;
  const auto mine = FileLock::take(tmp / "lock", Mode::kExclusive);
  fs::remove(tmp / "lock");
  EXPECT_FALSE(mine->is_of(tmp / "lock"));
  EXPECT_TRUE(another_gets(tmp / "lock", Mode::kExclusive));
}

TEST(FileLock, SaysWhereItCannotBe) {
  const test::TemporaryFolder tmp;
  EXPECT_THROW(FileLock::take(tmp / "missing" / "lock", Mode::kExclusive), SystemError);
}

}  // namespace
}  // namespace schmidt
