#pragma once

#include <string>
#include <vector>

namespace schmidt::cli {

/// How a run of this program as a child process ended.
struct ChildEnd {
  int code = 0;        ///< its exit code; 0 where a signal ended it
  int killed_by = 0;   ///< the signal that ended it; 0 where it ended by itself
  int stopped_by = 0;  ///< SIGINT or SIGTERM, if this process was to stop meanwhile
  std::string output;  ///< all that it printed on standard output
};

/// Runs this program with `arguments` and waits for it; its standard error is this process's.
/// `launcher` is the command that starts it where it is not started directly: {"mpirun", "-n",
/// "4"}. SIGINT and SIGTERM are handed on to it, and it does not outlive this process. Throws
/// SystemError.
ChildEnd run_this_program(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& launcher = {});

}  // namespace schmidt::cli
