#include "tests/support/shell.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <sys/wait.h>

namespace schmidt::test {

std::vector<std::string> Ran::lines() const {
  std::vector<std::string> result;
  for (size_t at = 0; at < out.size();) {
    const size_t end = std::min(out.find('\n', at), out.size());
    result.push_back(out.substr(at, end - at));
    at = end + 1;
  }
  return result;
}

Streams::Streams(const TemporaryFolder& folder)
    : in(folder / "stdin"), out(folder / "stdout"), err(folder / "stderr") {}

Ran Streams::ran(int status) const {
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out),
          read_file(err)};
}

Ran run_in_bash(const TemporaryFolder& folder, const std::string& command,
                const std::string& input) {
  const Streams streams(folder);
  const std::string script = (folder / "script").string();
  write_file(streams.in, input);
  write_file(script, command);
  return streams.ran(std::system(fmt::format("bash {} <{} >{} 2>{}", script, streams.in.string(),
                                             streams.out.string(), streams.err.string())
                                     .c_str()));
}

}  // namespace schmidt::test
