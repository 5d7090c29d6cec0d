#include "tests/cli/program.h"

#include <cstdio>
#include <string_view>
#include <utility>
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

/// The words of a command that needs no shell, the program's name first; none of another.
std::vector<std::string> plain_words(const std::string& command) {
  constexpr std::string_view kProgram = "$S ";
  if (!command.starts_with(kProgram)) return {};
  wordexp_t expanded;
  std::vector<std::string> words;
  if (::wordexp(command.c_str() + kProgram.size(), &expanded, WRDE_NOCMD) != 0) return {};
  words.emplace_back(SCHMIDT_PROGRAM);
  words.insert(words.end(), expanded.we_wordv, expanded.we_wordv + expanded.we_wordc);
  ::wordfree(&expanded);
  // A recipe starts its stages by the file of its own process.
  return words.size() < 2 || words[1] == "run" ? std::vector<std::string>{} : words;
}

[[noreturn]] void become_program(std::vector<std::string> words, const Streams& streams) {
  const auto redirect = [](int stream, const std::filesystem::path& path, int flags) {
    ::dup2(::open(path.c_str(), flags, 0666), stream);
  };
  redirect(STDIN_FILENO, streams.in, O_RDONLY);
  redirect(STDOUT_FILENO, streams.out, O_WRONLY | O_CREAT | O_TRUNC);
  redirect(STDERR_FILENO, streams.err, O_WRONLY | O_CREAT | O_TRUNC);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  at::set_num_threads(1);
  const int code = cli::run_program(static_cast<int>(words.size()), argv.data());
  std::fflush(nullptr);
  ::_exit(code);
}

Ran run_in_fork(const TemporaryFolder& folder, std::vector<std::string> words,
                const std::string& input) {
  const Streams streams(folder);
  write_file(streams.in, input);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) become_program(std::move(words), streams);
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
  const std::vector<std::string> words = plain_words(command);
  return words.empty()
             ? run_in_bash(folder, fmt::format("export S={}\n{}", SCHMIDT_PROGRAM, command), input)
             : run_in_fork(folder, words, input);
}

}  // namespace schmidt::test
