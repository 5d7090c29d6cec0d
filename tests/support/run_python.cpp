#include <cstdio>
#include <memory>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/support.h"

namespace schmidt::test {
namespace {

/// One python_worker.py for all scripts of this process: importing transformers takes longer than
/// what most of them do.
class PythonWorker {
 public:
  PythonWorker() {
    const std::string python = (source_dir() / ".venv/bin/python").string();
    const std::string script = (source_dir() / "tests/support/python_worker.py").string();
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(ends[1], STDIN_FILENO);
      ::dup2(ends[1], STDOUT_FILENO);
      ::execl(python.c_str(), python.c_str(), script.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    requests_.reset(::fdopen(ends[0], "w"));
    answers_.reset(::fdopen(::fcntl(ends[0], F_DUPFD_CLOEXEC, 0), "r"));
  }

  ~PythonWorker() {
    requests_.reset();
    answers_.reset();
    if (child_ > 0) ::waitpid(child_, nullptr, 0);
  }
  PythonWorker(const PythonWorker&) = delete;
  PythonWorker& operator=(const PythonWorker&) = delete;

  /// The exit code of a script of python/ with its arguments; -1 where the worker is gone.
  int run(const std::string& script_and_arguments, const std::string& err) {
    const nlohmann::json request = {
        {"command", (source_dir() / "python" / script_and_arguments).string()}, {"stderr", err}};
    int code = -1;
    if (requests_ == nullptr || answers_ == nullptr ||
        std::fprintf(requests_.get(), "%s\n", request.dump().c_str()) < 0 ||
        std::fflush(requests_.get()) != 0 || std::fscanf(answers_.get(), "%d", &code) != 1) {
      return -1;
    }
    return code;
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  pid_t child_ = -1;
  std::unique_ptr<std::FILE, Close> requests_, answers_;
};

}  // namespace

bool run_python(const TemporaryFolder& folder, const std::string& script_and_arguments) {
  static PythonWorker worker;
  const std::filesystem::path err = folder / "stderr";
  const int code = worker.run(script_and_arguments, err.string());
  if (code == 0) return true;
  ADD_FAILURE() << (std::filesystem::exists(err) ? read_file(err)
                                                 : "no Python to run scripts with");
  return false;
}

}  // namespace schmidt::test
