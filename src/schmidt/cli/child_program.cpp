#include "schmidt/cli/child_program.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <utility>

#if defined(__linux__)
#include <sys/prctl.h>
#endif
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

namespace schmidt::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kThisProgram = "/proc/self/exe";  // even where its file is gone

std::atomic<pid_t> running_child = 0;
std::atomic<int> last_signal = 0;
static_assert(std::atomic<pid_t>::is_always_lock_free);

void hand_on(int signal) {
  const int code = errno;
  last_signal = signal;
  if (const pid_t child = running_child; child > 0) ::kill(child, signal);
  errno = code;
}

/// Handlers for as long as a child runs.
class HandedOnSignals {
 public:
  HandedOnSignals() {
    struct sigaction action {};
    action.sa_handler = hand_on;
    sigemptyset(&action.sa_mask);
    last_signal = 0;
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &before_[i]);
  }
  ~HandedOnSignals() {
    running_child = 0;
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  HandedOnSignals(const HandedOnSignals&) = delete;
  HandedOnSignals& operator=(const HandedOnSignals&) = delete;

 private:
  static constexpr std::array<int, 2> kSignals = {SIGINT, SIGTERM};
  std::array<struct sigaction, 2> before_{};
};

// Between fork and exec nothing but system calls: other threads may have held any lock.
[[noreturn]] void become(char* const* command, bool is_this_program, int output, int refusal,
                         pid_t parent) {
#if defined(__linux__)
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
  if (::getppid() != parent) ::_exit(128 + SIGTERM);  // it ended before that
  ::dup2(output, STDOUT_FILENO);
  const int nothing = ::open("/dev/null", O_RDONLY);  // a recipe says all that there is to say
  if (nothing > STDIN_FILENO) ::dup2(nothing, STDIN_FILENO);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  ::execvp(command[0], command);
  if (errno == ENOENT && is_this_program) ::execv(kThisProgram, command);
  const int code = errno;
  (void)!::write(refusal, &code, sizeof code);
  ::_exit(127);
}

/// The two ends of a pipe that no other program gets: to read from, to write to.
class Pipe {
 public:
  explicit Pipe(const std::string& program) {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) throw SystemError("cannot start", program, errno);
  }
  ~Pipe() {
    for (const int end : ends_) {
      if (end >= 0) ::close(end);
    }
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int in() const { return ends_[0]; }
  int out() const { return ends_[1]; }
  void close_out() { ::close(std::exchange(ends_[1], -1)); }

 private:
  std::array<int, 2> ends_{};
};

std::string read_all(int from) {
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t bytes = ::read(from, buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(bytes));
  }
}

}  // namespace

ChildEnd run_this_program(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& launcher) {
  std::vector<std::string> command = launcher;
  command.push_back(fs::read_symlink(kThisProgram).string());
  command.insert(command.end(), arguments.begin(), arguments.end());
  const std::string& program = command.front();
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  Pipe output(program), refusal(program);
  const HandedOnSignals signals;
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) become(words.data(), launcher.empty(), output.out(), refusal.out(), parent);
  if (child < 0) throw SystemError("cannot start", program, errno);
  running_child = child;
  output.close_out();
  refusal.close_out();
  if (last_signal != 0) ::kill(child, last_signal);  // it came before there was a child
  ChildEnd end;
  end.output = read_all(output.in());
  const std::string refused = read_all(refusal.in());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (int code = 0; refused.size() == sizeof code) {
    std::memcpy(&code, refused.data(), sizeof code);
    throw SystemError("cannot start", program, code);
  }
  end.stopped_by = last_signal;
  if (WIFSIGNALED(status)) {
    end.killed_by = WTERMSIG(status);
  } else {
    end.code = WEXITSTATUS(status);
  }
  return end;
}

}  // namespace schmidt::cli
