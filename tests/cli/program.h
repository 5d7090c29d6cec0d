#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/wait.h>

#include "tests/support/support.h"

namespace schmidt::test {

struct Ran {
  int code = -1;  ///< of a signal: 128 + its number
  std::string out, err;

  std::vector<std::string> lines() const {
    std::vector<std::string> result;
    for (size_t at = 0; at < out.size();) {
      const size_t end = std::min(out.find('\n', at), out.size());
      result.push_back(out.substr(at, end - at));
      at = end + 1;
    }
    return result;
  }
};

/// Runs `command` in bash, where $S is the program; `input` is its standard input.
inline Ran run_in_shell(const TemporaryFolder& tmp, const std::string& command,
                        const std::string& input = "") {
  write_file(tmp / "script", command);
  write_file(tmp / "stdin", input);
  const auto path = [&](const char* name) { return (tmp / name).string(); };
  const int status =
      std::system(fmt::format("S={} bash {} <{} >{} 2>{}", SCHMIDT_PROGRAM, path("script"),
                              path("stdin"), path("stdout"), path("stderr"))
                      .c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          read_file(path("stdout")), read_file(path("stderr"))};
}

}  // namespace schmidt::test
