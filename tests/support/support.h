#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace schmidt::test {

/// A fresh empty folder under the system's temporary one, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Whole file as bytes; fails the test when it cannot be read.
std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& bytes);

/// The project's root, whatever the working directory.
std::filesystem::path source_dir();

/// What python/make_oracles.py wrote for this build: truths of transformers and
/// tokenizers. The test fixture `oracles` makes them before the tests that ask.
std::filesystem::path oracle_dir();

/// SmolLM2-135M-Instruct as setup left it (models/smollm2.gguf); may not exist.
std::filesystem::path smollm2_path();

/// ../shared/data, real benchmark data that is not part of the project; may not exist.
std::filesystem::path data_dir();

/// Runs a script of python/ in a process of its own: its name and its arguments. A failure fails
/// the test with what the script said on stderr, which `folder` keeps.
bool run_python(const TemporaryFolder& folder, const std::string& script_and_arguments);

/// How a child process ended.
enum class ChildEnd { kDone, kFailed, kKilled };

/// A child process runs `work`; without `after_ms` it may kill itself by kill_now(), with it
/// SIGKILL ends it after so many milliseconds. What it throws goes to stderr and is kFailed.
/// OpenMP's threads do not survive a fork: at::set_num_threads(1) before.
ChildEnd run_in_child(const std::function<void()>& work, std::optional<int> after_ms = {});

/// Ends this process by SIGKILL.
[[noreturn]] void kill_now();

/// A progress callback (of anything that is called with one argument) that ends its process by
/// SIGKILL when it has been called `calls` times before.
inline auto kill_at(int calls) {
  return [left = calls](const auto&) mutable {
    if (left-- == 0) kill_now();
  };
}

}  // namespace schmidt::test

/// Skips the test with a message where a file that is no part of the project is absent.
#define SCHMIDT_REQUIRE_PATH(path)                                            \
  do {                                                                        \
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "absent: " << (path); \
  } while (false)
