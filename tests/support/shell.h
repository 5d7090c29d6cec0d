#pragma once

#include <string>
#include <vector>

#include "tests/support/support.h"

namespace schmidt::test {

/// What a run of a program left.
struct Ran {
  int code = -1;  ///< of a signal: 128 + its number
  std::string out, err;

  std::vector<std::string> lines() const;  ///< of `out`
};

/// Where a program reads and writes, in a folder.
struct Streams {
  explicit Streams(const TemporaryFolder& folder);
  Ran ran(int status) const;  ///< of a process that ended with that status of wait()

  std::filesystem::path in, out, err;
};

/// Runs `command` in bash; `input` is its standard input.
Ran run_in_bash(const TemporaryFolder& folder, const std::string& command,
                const std::string& input = "");

}  // namespace schmidt::test
