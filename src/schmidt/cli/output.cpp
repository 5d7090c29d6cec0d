#include "schmidt/cli/output.h"

#include <cerrno>
#include <cstdio>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace schmidt::cli {
namespace {

std::string message(int code) {
  constexpr const char* kWhat = "cannot write to standard output";
  return code == 0 ? kWhat : std::string(kWhat) + ": " + std::generic_category().message(code);
}

// Whether the system has taken everything: a network's file system says so only on closing.
bool is_delivered() {
  const int copy = ::dup(STDOUT_FILENO);
  return copy >= 0 && ::close(copy) == 0;
}

}  // namespace

OutputError::OutputError(int code)
    : std::runtime_error(message(code)), reader_left_(code == EPIPE) {}

void guard_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is taken, and the other direction alone is open.
    ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

void print_now(std::string_view text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) throw OutputError(errno);
}

void flush_output() {
  const bool lost = std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) != 0 || !is_delivered()) throw OutputError(errno);
  if (lost) throw OutputError(0);
}

}  // namespace schmidt::cli
