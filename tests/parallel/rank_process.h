#pragma once

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <sys/types.h>

namespace schmidt::test {

/// The process that is rank `rank` of a program of mpirun's whose command line holds `argument`;
/// 0: not there.
inline pid_t process_of_rank(int rank, const std::string& argument) {
  const auto contents = [](const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string variable = fmt::format("OMPI_COMM_WORLD_RANK={}", rank) + '\0';
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    if (contents(entry.path() / "cmdline").find(argument) != std::string::npos &&
        contents(entry.path() / "environ").find(variable) != std::string::npos) {
      return static_cast<pid_t>(std::stol(pid));
    }
  }
  return 0;
}

/// The exit code of `run`, which starts mpirun and waits for it, when rank `rank` of it gets a
/// signal as soon as `begun` says so; none if it ended before.
inline std::optional<int> exit_code_after(int signal, int rank, const std::string& argument,
                                          const std::function<int()>& run,
                                          const std::function<bool()>& begun) {
  int code = 0;
  std::atomic<bool> ended = false;
  std::thread running([&] {
    code = run();
    ended = true;
  });
  pid_t process = 0;
  bool sent = false;
  while (!ended && !sent) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (process == 0) process = process_of_rank(rank, argument);
    if (process != 0 && begun()) sent = ::kill(process, signal) == 0;
  }
  running.join();
  return sent ? std::optional(code) : std::nullopt;
}

}  // namespace schmidt::test
