#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

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

}  // namespace schmidt::test
