#include "tests/support/support.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace schmidt::test {
namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "schmidt_test.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << "cannot read " << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out << bytes;
  ASSERT_TRUE(out.flush()) << "cannot write " << path;
}

fs::path source_dir() { return SCHMIDT_SOURCE_DIR; }
fs::path oracle_dir() { return fs::path(SCHMIDT_BINARY_DIR) / "oracles"; }
fs::path smollm2_path() { return source_dir() / "models" / "smollm2.gguf"; }
fs::path data_dir() { return source_dir() / ".." / "shared" / "data"; }

ChildEnd run_in_child(const std::function<void()>& work, std::optional<int> after_ms) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      work();
      ::_exit(0);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s\n", e.what());
      ::_exit(1);
    }
  }
  if (after_ms) {
    ::usleep(static_cast<useconds_t>(*after_ms) * 1000);
    ::kill(child, SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return ChildEnd::kKilled;
  return WEXITSTATUS(status) == 0 ? ChildEnd::kDone : ChildEnd::kFailed;
}

void kill_now() {
  ::kill(::getpid(), SIGKILL);
  ::_exit(1);  // not reached
}

}  // namespace schmidt::test
