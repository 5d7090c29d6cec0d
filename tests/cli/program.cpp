#include "tests/cli/program.h"

#include <cstdio>
#include <optional>
#include <regex>
#include <string_view>
#include <vector>

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wordexp.h>

#include "schmidt/cli/program.h"

namespace schmidt::test {
namespace {

/// A command that needs no shell.
struct PlainCommand {
  std::vector<std::string> words;  ///< the program's name first
  std::string in, out;             ///< files, "&-" for a stream that is closed; empty: as all have
};

/// None of a command that is more than the program, arguments and where it reads and writes.
std::optional<PlainCommand> plain_command(std::string command) {
  constexpr std::string_view kProgram = "$S ";
  if (!command.starts_with(kProgram)) return std::nullopt;
  command.erase(0, kProgram.size());
  PlainCommand plain{.words = {SCHMIDT_PROGRAM}};
  static const std::regex kLastRedirection(R"( ([<>])([\w./-]+|&-)$)");
  for (std::smatch found; std::regex_search(command, found, kLastRedirection);) {
    (found[1] == "<" ? plain.in : plain.out) = found[2];
    command.erase(static_cast<size_t>(found.position()));
  }
  wordexp_t expanded;
  if (::wordexp(command.c_str(), &expanded, WRDE_NOCMD) != 0) return std::nullopt;
  plain.words.insert(plain.words.end(), expanded.we_wordv, expanded.we_wordv + expanded.we_wordc);
  ::wordfree(&expanded);
  // A recipe starts its stages by the file of its own process.
  if (plain.words.size() < 2 || plain.words[1] == "run") return std::nullopt;
  return plain;
}

void redirect(int stream, const std::filesystem::path& path, const std::string& given, int flags) {
  if (given == "&-") {
    ::close(stream);
  } else {
    ::dup2(::open(given.empty() ? path.c_str() : given.c_str(), flags, 0666), stream);
  }
}

[[noreturn]] void become_program(PlainCommand command, const Streams& streams) {
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
  redirect(STDIN_FILENO, streams.in, command.in, O_RDONLY);
  redirect(STDERR_FILENO, streams.err, "", kWrite);
  redirect(STDOUT_FILENO, streams.out, command.out, kWrite);
  std::vector<char*> argv;
  for (std::string& word : command.words) argv.push_back(word.data());
  argv.push_back(nullptr);
  at::set_num_threads(1);
  const int code = cli::run_program(static_cast<int>(command.words.size()), argv.data());
  std::fflush(nullptr);
  ::_exit(code);
}

Ran run_in_fork(const TemporaryFolder& folder, const PlainCommand& command,
                const std::string& input) {
  const Streams streams(folder);
  write_file(streams.in, input);
  write_file(streams.out, "");
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) become_program(command, streams);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return {};
  return streams.ran(status);
}

}  // namespace

Ran run_in_shell(const TemporaryFolder& folder, std::string command, const std::string& input) {
  for (size_t at = 0; (at = command.find('@', at)) != std::string::npos; ++at) {
    constexpr std::string_view kBefore = " '\"=,<>";
    if (at > 0 && kBefore.find(command[at - 1]) == std::string_view::npos) continue;
    command.replace(at, 1, folder.path().string() + "/");
  }
  if (const auto plain = plain_command(command)) return run_in_fork(folder, *plain, input);
  return run_in_bash(folder, fmt::format("export S={}\n{}", SCHMIDT_PROGRAM, command), input);
}

}  // namespace schmidt::test
